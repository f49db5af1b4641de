/** @file One image of the gallery that the form names: dropped, pasted, chosen from a file, or dragged from the history. */
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { fetchApi, uploadImage } from '../api.js';
import { ApiImage } from '../parts.js';
import type { Size } from './mask-image.js';

/** The type of an image of the gallery that is dragged. */
export const galleryType = 'text/x-studio-image';

export function galleryPath(name: string, width?: number): string {
  return `playground/images/${name}${width === undefined ? '' : `?width=${width}`}`;
}

/** Gives images among dropped or pasted files to the playground. */
export async function uploadFiles(files: Iterable<File>): Promise<string[]> {
  const names: string[] = [];
  for (const file of files) if (file.type.startsWith('image/')) names.push(await uploadImage(file));
  return names;
}

/** Returns the names of what is dropped: an image of the gallery, or files. */
async function droppedImages({ dataTransfer }: DragEvent): Promise<string[]> {
  const own = dataTransfer?.getData(galleryType);
  return own ? [own] : uploadFiles(dataTransfer?.files ?? []);
}

/** Returns the size of an image of the gallery, when it is known. */
export function useImageSize(name: string | undefined): Size | undefined {
  const [known, setKnown] = useState<Size & { name: string }>();
  useEffect(() => {
    if (name === undefined) return;
    const abort = new AbortController();
    fetchApi(galleryPath(name), abort.signal)
      .then((response) => response.blob())
      .then((blob) => createImageBitmap(blob))
      .then(({ width, height }) => !abort.signal.aborted && setKnown({ name, width, height }))
      // The image itself says that it is not there.
      .catch(() => {});
    return () => abort.abort();
  }, [name]);
  return known?.name === name ? known : undefined;
}

/** Returns where a pasted image goes: below the pointer, or where the focus is. */
function pasteZone(): Element | null {
  return document.querySelector('.references:hover') ?? document.querySelector('.references:focus-within');
}

/** A region that takes images which are dropped, pasted while the pointer or the focus is in it, or dragged from the history. */
export function DropZone({
  label,
  class: className = '',
  onImages,
  onError,
  children,
}: {
  label: string;
  class?: string;
  onImages: (names: readonly string[]) => void;
  onError: (error: unknown) => void;
  children: ComponentChildren;
}) {
  const zone = useRef<HTMLElement>(null);
  const [isOver, setOver] = useState(false);
  const take = (names: Promise<string[]>): void =>
    void names.then((all) => all.length > 0 && onImages(all)).catch(onError);
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    const paste = (event: ClipboardEvent): void => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0 || pasteZone() !== zone.current) return;
      event.stopPropagation();
      latest.current(uploadFiles(files));
    };
    // Before the page, which takes what no zone takes.
    addEventListener('paste', paste, { capture: true });
    return () => removeEventListener('paste', paste, { capture: true });
  }, []);
  return (
    <section
      ref={zone}
      class={`references ${className} ${isOver ? 'over' : ''}`}
      aria-label={label}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        setOver(false);
        take(droppedImages(event));
      }}
    >
      {children}
    </section>
  );
}

/** A place for one image. */
export function ImageSlot({
  label,
  image,
  onImage,
  onError,
  children,
}: {
  label: string;
  image: string | undefined;
  onImage: (name: string | undefined) => void;
  onError: (error: unknown) => void;
  /** Shown beside the image. */
  children?: ComponentChildren;
}) {
  const id = useId();
  return (
    <DropZone label={label} class="slot" onImages={([name]) => onImage(name)} onError={onError}>
      {image !== undefined && (
        <div class="of-slot">
          <ApiImage class="reference" path={galleryPath(image, 192)} alt={label} />
          <div class="beside">
            {children}
            <button type="button" onClick={() => onImage(undefined)}>
              Remove<span class="hidden"> {label}</span>
            </button>
          </div>
        </div>
      )}
      <input
        id={id}
        class="hidden"
        type="file"
        accept="image/*"
        onChange={({ currentTarget }) => {
          void uploadFiles(currentTarget.files ?? [])
            .then(([name]) => name !== undefined && onImage(name))
            .catch(onError)
            .finally(() => {
              currentTarget.value = '';
            });
        }}
      />
      <label class="button" for={id}>
        <span class="hidden">{label}: </span>
        {image === undefined ? 'Drop, paste or choose an image' : 'Another'}
      </label>
    </DropZone>
  );
}
