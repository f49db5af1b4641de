/** @file Paints where a reference acts: white there, black elsewhere. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { uploadCanvas } from './form.js';

/** The longer side of the mask, in pixels; it is resized to each layer. */
const SIDE = 512;

/** Regions by a key, as fractions: left, top, width, height. */
const regions: readonly [name: string, rectangle: readonly [number, number, number, number]][] = [
  ['Left half', [0, 0, 0.5, 1]],
  ['Right half', [0.5, 0, 0.5, 1]],
  ['Top half', [0, 0, 1, 0.5]],
  ['Bottom half', [0, 0.5, 1, 0.5]],
];

export function MaskEditor({
  aspect,
  title,
  onDone,
  onCancel,
  onError,
}: {
  aspect: number;
  title: string;
  /** @param mask undefined: everywhere */
  onDone: (mask: string | undefined) => void;
  onCancel: () => void;
  onError: (error: unknown) => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState(60);
  const [isErasing, setErasing] = useState(false);
  const width = Math.round(aspect >= 1 ? SIDE : SIDE * aspect);
  const height = Math.round(aspect >= 1 ? SIDE / aspect : SIDE);
  const context = (): CanvasRenderingContext2D => {
    const found = (canvas.current as HTMLCanvasElement).getContext('2d') as CanvasRenderingContext2D;
    Object.assign(found, { lineWidth: size, lineCap: 'round', lineJoin: 'round' });
    found.strokeStyle = isErasing ? '#000' : '#fff';
    return found;
  };
  const fill = (color: string, [x, y, w, h]: readonly [number, number, number, number]): void => {
    const target = context();
    target.fillStyle = color;
    target.fillRect(x * width, y * height, w * width, h * height);
  };
  useEffect(() => {
    dialog.current?.showModal();
    fill('#000', [0, 0, 1, 1]);
  }, []);
  const paint = (start: PointerEvent): void => {
    const element = canvas.current as HTMLCanvasElement;
    element.setPointerCapture(start.pointerId);
    const target = context();
    const at = ({ offsetX, offsetY }: PointerEvent): [number, number] => [
      (offsetX * width) / element.clientWidth,
      (offsetY * height) / element.clientHeight,
    ];
    target.beginPath();
    target.moveTo(...at(start));
    const move = (event: PointerEvent): void => {
      target.lineTo(...at(event));
      target.stroke();
    };
    move(start);
    element.addEventListener('pointermove', move);
    element.addEventListener('pointerup', () => element.removeEventListener('pointermove', move), {
      once: true,
    });
  };
  return (
    <dialog ref={dialog} class="mask-editor" aria-label={title} onClose={onCancel}>
      <h2>{title}</h2>
      <canvas ref={canvas} width={width} height={height} onPointerDown={paint}>
        White where the reference acts
      </canvas>
      <div class="tools">
        {regions.map(([name, rectangle]) => (
          <button
            key={name}
            type="button"
            onClick={() => {
              fill('#000', [0, 0, 1, 1]);
              fill('#fff', rectangle);
            }}
          >
            {name}
          </button>
        ))}
        <label class="slider">
          <span>Brush {size}</span>
          <input
            type="range"
            min={8}
            max={200}
            value={size}
            onInput={(event) => setSize(event.currentTarget.valueAsNumber)}
          />
        </label>
        <label>
          <input
            type="checkbox"
            checked={isErasing}
            onChange={(event) => setErasing(event.currentTarget.checked)}
          />{' '}
          Erase
        </label>
      </div>
      <div class="tools">
        <button
          type="button"
          class="primary"
          onClick={() => uploadCanvas(canvas.current as HTMLCanvasElement).then(onDone, onError)}
        >
          Use this mask
        </button>
        <button type="button" onClick={() => onDone(undefined)}>
          Everywhere
        </button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}
