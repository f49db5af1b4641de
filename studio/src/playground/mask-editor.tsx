/** @file Paints a mask over the image that it concerns. */
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { fetchApi } from '../api.js';
import { ApiImage } from '../parts.js';
import { Fault } from './fields.js';
import { galleryPath, uploadFiles } from './gallery-image.js';
import { type Size, uploadCanvas } from './mask-image.js';
import { type Brush, MaskPainting, type Rectangle } from './mask-painting.js';

const regions: readonly [name: string, rectangle: Rectangle][] = [
  ['Left half', [0, 0, 0.5, 1]],
  ['Right half', [0.5, 0, 0.5, 1]],
  ['Top half', [0, 0, 1, 0.5]],
  ['Bottom half', [0, 0.5, 1, 0.5]],
];

/** An image to paint over. */
export interface Background {
  title: string;
  /** Of the gallery. */
  image: string;
}

export function MaskEditor({
  size,
  title,
  hint,
  withoutMask,
  mask,
  backgrounds,
  takesBackground = false,
  onDone,
  onCancel,
  onError,
}: {
  /** Of the mask, in pixels. */
  size: Size;
  title: string;
  hint: string;
  /** What the button says that does without a mask. */
  withoutMask: string;
  /** What is painted already, an image of the gallery. */
  mask: string | undefined;
  /** The first is shown. */
  backgrounds: readonly Background[];
  /** Whether another image can be chosen. */
  takesBackground?: boolean;
  /** @param mask undefined: none */
  onDone: (mask: string | undefined) => void;
  onCancel: () => void;
  onError: (error: unknown) => void;
}) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const painting = useRef<MaskPainting>();
  const [brush, setBrush] = useState<Brush>({ size: 0.12, isErasing: false });
  const [undoable, setUndoable] = useState(0);
  const [fault, setFault] = useState<string>();
  const [chosen, setChosen] = useState<Background>();
  const [background, setBackground] = useState(backgrounds[0]?.image ?? '');
  const shown = chosen === undefined ? backgrounds : [...backgrounds, chosen];
  const fail = (error: unknown): void => setFault((error as Error).message);
  useEffect(() => {
    dialog.current?.showModal();
    const own = new MaskPainting(canvas.current as HTMLCanvasElement, setUndoable);
    painting.current = own;
    if (mask === undefined) return;
    fetchApi(galleryPath(mask))
      .then((response) => response.blob())
      .then((blob) => createImageBitmap(blob))
      .then((image) => own.load(image), onError);
  }, []);
  const use = (): void => {
    const own = painting.current as MaskPainting;
    if (own.isEmpty) setFault('Nothing is painted yet; paint, choose a half, or upload a mask.');
    else uploadCanvas(own.toMask()).then(onDone, fail);
  };
  const upload = async (files: FileList | null, then: (name: string) => void): Promise<void> => {
    const [name] = await uploadFiles(files ?? []);
    if (name !== undefined) then(name);
  };
  return (
    <dialog
      ref={dialog}
      class="mask-editor"
      aria-label={title}
      onClose={onCancel}
      // The form below takes images that are dropped.
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
      }}
      onKeyDown={(event) => {
        if (event.key !== 'z' || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        painting.current?.undo();
      }}
    >
      <h2>{title}</h2>
      <p class="hint">{hint}</p>
      <div
        class={`canvas ${background === '' ? 'blank' : ''}`}
        style={{ aspectRatio: `${size.width} / ${size.height}`, '--aspect': size.width / size.height }}
      >
        {background !== '' && <ApiImage path={galleryPath(background)} alt="" />}
        <canvas
          ref={canvas}
          width={size.width}
          height={size.height}
          aria-label="What is painted"
          role="img"
          onPointerDown={(event) => painting.current?.stroke(event, brush)}
        />
      </div>
      <div class="tools">
        <label class="slider">
          <span>Brush {Math.round(brush.size * 100)} %</span>
          <input
            type="range"
            min={1}
            max={50}
            value={Math.round(brush.size * 100)}
            onInput={(event) => setBrush({ ...brush, size: event.currentTarget.valueAsNumber / 100 })}
          />
        </label>
        <label>
          <input
            type="checkbox"
            checked={brush.isErasing}
            onChange={(event) => setBrush({ ...brush, isErasing: event.currentTarget.checked })}
          />{' '}
          Erase
        </label>
        <button type="button" disabled={undoable === 0} onClick={() => painting.current?.undo()}>
          Undo
        </button>
        <button type="button" onClick={() => painting.current?.clear()}>
          Clear
        </button>
      </div>
      <div class="tools">
        {regions.map(([name, rectangle]) => (
          <button key={name} type="button" onClick={() => painting.current?.fill(rectangle)}>
            {name}
          </button>
        ))}
      </div>
      {(shown.length > 1 || takesBackground) && (
        <div class="tools">
          <label>
            Shown below{' '}
            <select value={background} onChange={(event) => setBackground(event.currentTarget.value)}>
              <option value="">nothing</option>
              {shown.map((one) => (
                <option key={one.image} value={one.image}>
                  {one.title}
                </option>
              ))}
            </select>
          </label>
          <FileButton
            id={`${id}-background`}
            title="Another image"
            onFiles={(files) =>
              upload(files, (image) => {
                setChosen({ title: 'the chosen image', image });
                setBackground(image);
              }).catch(fail)
            }
          />
        </div>
      )}
      <Fault text={fault} />
      <div class="tools last">
        <button type="button" class="primary" onClick={use}>
          Use this mask
        </button>
        <FileButton
          id={`${id}-mask`}
          title="Upload a mask"
          onFiles={(files) => upload(files, onDone).catch(fail)}
        />
        <button type="button" onClick={() => onDone(undefined)}>
          {withoutMask}
        </button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}

/** Chooses a file, by keyboard too. */
function FileButton({
  id,
  title,
  onFiles,
}: {
  id: string;
  title: string;
  onFiles: (files: FileList | null) => Promise<void>;
}) {
  return (
    <span class="file-button">
      <input
        id={id}
        class="hidden"
        type="file"
        accept="image/*"
        onChange={({ currentTarget }) =>
          void onFiles(currentTarget.files).finally(() => {
            currentTarget.value = '';
          })
        }
      />
      <label class="button" for={id}>
        {title}
      </label>
    </span>
  );
}
