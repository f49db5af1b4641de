/** @file The reference images of an adapter: dropped, pasted, chosen from a file, or dragged from the history. */
import { useId, useState } from 'preact/hooks';
import { uploadImage } from '../api.js';
import { ApiImage } from '../parts.js';
import type { Reference } from './form.js';
import { MaskEditor } from './mask-editor.js';

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

export function References({
  references,
  aspect,
  onChange,
  onError,
}: {
  references: readonly Reference[];
  /** Width by height of what is generated, which masks cover. */
  aspect: number;
  onChange: (references: Reference[]) => void;
  onError: (error: unknown) => void;
}) {
  const id = useId();
  const [isOver, setOver] = useState(false);
  const [masked, setMasked] = useState<number>();
  const add = (names: readonly string[]): void =>
    onChange([...references, ...names.map((name) => ({ name }))]);
  const drop = async (event: DragEvent): Promise<void> => {
    event.preventDefault();
    event.stopPropagation();
    setOver(false);
    const own = event.dataTransfer?.getData(galleryType);
    if (own) add([own]);
    else await uploadFiles(event.dataTransfer?.files ?? []).then(add, onError);
  };
  const replace = (index: number, one: Reference): void => onChange(references.with(index, one));
  return (
    <section
      class={`references ${isOver ? 'over' : ''}`}
      aria-label="Reference images"
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <ul>
        {references.map((reference, i) => (
          <li key={`${i} ${reference.name}`}>
            <ApiImage class="reference" path={galleryPath(reference.name, 192)} alt={`Reference ${i + 1}`} />
            {reference.mask !== undefined && (
              <ApiImage
                class="mask"
                path={galleryPath(reference.mask, 64)}
                alt={`Mask of reference ${i + 1}`}
              />
            )}
            <div>
              <button type="button" onClick={() => setMasked(i)} aria-label={`Mask of reference ${i + 1}`}>
                Mask
              </button>
              <button
                type="button"
                aria-label={`Remove reference ${i + 1}`}
                onClick={() => onChange(references.toSpliced(i, 1))}
              >
                ×
              </button>
            </div>
          </li>
        ))}
      </ul>
      <label class="button" for={id}>
        {references.length === 0 ? 'Drop, paste or choose reference images' : 'Add'}
      </label>
      <input
        id={id}
        class="hidden"
        type="file"
        accept="image/*"
        multiple
        onChange={(event) => {
          const { currentTarget } = event;
          uploadFiles(currentTarget.files ?? [])
            .then(add, onError)
            .finally(() => {
              currentTarget.value = '';
            });
        }}
      />
      {masked !== undefined && references[masked] !== undefined && (
        <MaskEditor
          aspect={aspect}
          title={`Where reference ${masked + 1} acts`}
          onDone={(mask) => {
            const { name } = references[masked] as Reference;
            replace(masked, mask === undefined ? { name } : { name, mask });
            setMasked(undefined);
          }}
          onCancel={() => setMasked(undefined)}
          onError={onError}
        />
      )}
    </section>
  );
}
