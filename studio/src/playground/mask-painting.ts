/** @file What is painted of a mask: opaque on a transparent canvas, which lies over an image. */
import { canvasOf, contextOf, type Size } from './mask-image.js';

/** Seen on most images. */
const COLOR = '#e64980';
const UNDO_BYTES = 64 * 2 ** 20;

/** As fractions: left, top, width, height. */
export type Rectangle = readonly [number, number, number, number];

export interface Brush {
  /** As a fraction of the longer side. */
  size: number;
  isErasing: boolean;
}

export class MaskPainting {
  readonly #canvas: HTMLCanvasElement;
  #past: ImageData[] = [];
  /** Is told how many steps can be undone. */
  readonly #onChange: (steps: number) => void;

  constructor(canvas: HTMLCanvasElement, onChange: (steps: number) => void) {
    this.#canvas = canvas;
    this.#onChange = onChange;
  }

  get #context(): CanvasRenderingContext2D {
    return contextOf(this.#canvas);
  }

  /** Whether nothing is painted. */
  get isEmpty(): boolean {
    return this.#pixels().data.every((value, i) => i % 4 !== 3 || value === 0);
  }

  #pixels(): ImageData {
    return this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
  }

  /** Keeps what is painted, to be undone. */
  #remember(): void {
    const pixels = this.#pixels();
    const most = Math.max(2, Math.floor(UNDO_BYTES / pixels.data.length));
    this.#past = [...this.#past, pixels].slice(-most);
    this.#onChange(this.#past.length);
  }

  undo(): void {
    const last = this.#past.pop();
    if (last === undefined) return;
    this.#context.putImageData(last, 0, 0);
    this.#onChange(this.#past.length);
  }

  clear(): void {
    this.#remember();
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  /** Paints a rectangle and nothing else. */
  fill([x, y, w, h]: Rectangle): void {
    const { width, height } = this.#canvas;
    this.clear();
    this.#context.fillStyle = COLOR;
    this.#context.fillRect(x * width, y * height, w * width, h * height);
  }

  /** Paints from where a pointer is pressed until it is released. */
  stroke(start: PointerEvent, { size, isErasing }: Brush): void {
    if (!start.isPrimary || start.button !== 0) return;
    start.preventDefault();
    this.#remember();
    const canvas = this.#canvas;
    canvas.setPointerCapture(start.pointerId);
    const { width, height } = canvas;
    const context = this.#context;
    const at = ({ clientX, clientY }: PointerEvent): [number, number] => {
      const { left, top, width: shownWidth, height: shownHeight } = canvas.getBoundingClientRect();
      return [((clientX - left) * width) / shownWidth, ((clientY - top) * height) / shownHeight];
    };
    let last = at(start);
    const move = (event: PointerEvent): void => {
      const next = at(event);
      context.save();
      context.globalCompositeOperation = isErasing ? 'destination-out' : 'source-over';
      Object.assign(context, {
        lineWidth: size * Math.max(width, height),
        lineCap: 'round',
        lineJoin: 'round',
      });
      context.strokeStyle = COLOR;
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...next);
      context.stroke();
      context.restore();
      last = next;
    };
    move(start);
    const over = new AbortController();
    const { signal } = over;
    canvas.addEventListener('pointermove', (event) => event.isPrimary && move(event), { signal });
    for (const end of ['pointerup', 'pointercancel', 'lostpointercapture'] as const)
      canvas.addEventListener(end, (event) => event.isPrimary && over.abort(), { signal });
  }

  /** Paints where an image is white, for less where it is grey. */
  load(mask: ImageBitmap): void {
    const { width, height } = this.#canvas;
    const context = this.#context;
    context.clearRect(0, 0, width, height);
    context.drawImage(mask, 0, 0, width, height);
    const pixels = this.#pixels();
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i] as number;
    context.putImageData(pixels, 0, 0);
    recolor(context, COLOR, { width, height });
  }

  /** Returns the mask: white on black. */
  toMask(): HTMLCanvasElement {
    const size = { width: this.#canvas.width, height: this.#canvas.height };
    const mask = canvasOf(size);
    const context = contextOf(mask);
    context.drawImage(this.#canvas, 0, 0);
    recolor(context, '#fff', size);
    context.globalCompositeOperation = 'destination-over';
    context.fillStyle = '#000';
    context.fillRect(0, 0, size.width, size.height);
    return mask;
  }
}

function recolor(context: CanvasRenderingContext2D, color: string, { width, height }: Size): void {
  context.save();
  context.globalCompositeOperation = 'source-in';
  context.fillStyle = color;
  context.fillRect(0, 0, width, height);
  context.restore();
}
