/**
 * @file Changes the colours of images (torchvision `transforms/_functional_pil.py`, `adjust_brightness` and its siblings), to
 * the byte as Pillow does (`src/PIL/ImageEnhance.py`, `src/libImaging/Blend.c` and `ConvertYCbCr.c`, `Convert.c`).
 */
import type { RgbImage } from '../base/rgb-image.js';

/** A factor of 1 leaves brightness, contrast and saturation as they are, and 0 takes them away; hue: -0.5 … 0.5 of a turn. */
export type ColorChange = { readonly of: keyof typeof changes; readonly by: number };

/** Returns a copy of the image with its colours changed, one change after another. */
export function changeColors(image: RgbImage, list: readonly ColorChange[]): RgbImage {
  const data = image.data.slice();
  for (const { of, by } of list) changes[of](data, by);
  return { ...image, data };
}

const changes = {
  brightness: (data: Uint8Array, factor: number) => blend(data, factor, () => 0),
  contrast: (data: Uint8Array, factor: number) => {
    let sum = 0;
    for (let i = 0; i < data.length; i += 3) sum += greyAt(data, i);
    const mean = Math.trunc(sum / (data.length / 3) + 0.5);
    blend(data, factor, () => mean);
  },
  saturation: (data: Uint8Array, factor: number) => blend(data, factor, (i) => greyAt(data, i)),
  hue: turnHue,
};

/** ITU-R 601-2 luma of the pixel at byte `i`, as Pillow converts RGB to L. */
export function greyAt(data: Uint8Array, i: number): number {
  return (data[i]! * 19595 + data[i + 1]! * 38470 + data[i + 2]! * 7471 + 0x8000) >> 16;
}

/** Moves each pixel away from a grey, or towards it: grey + factor · (pixel − grey). */
function blend(data: Uint8Array, factor: number, greyOf: (i: number) => number): void {
  const alpha = Math.fround(factor);
  for (let i = 0; i < data.length; i += 3) {
    const grey = greyOf(i);
    for (let c = i; c < i + 3; c++) {
      const value = Math.fround(grey + Math.fround(alpha * (data[c]! - grey)));
      data[c] = Math.max(0, Math.min(255, Math.trunc(value)));
    }
  }
}

/** @param turn -0.5 … 0.5; the hue has 256 steps */
function turnHue(data: Uint8Array, turn: number): void {
  const steps = Math.trunc(turn * 255);
  for (let i = 0; i < data.length; i += 3) {
    const [hue, saturation, value] = toHsv(data[i]!, data[i + 1]!, data[i + 2]!);
    if (saturation > 0) data.set(toRgb((hue + steps + 256) % 256, saturation, value), i);
    else data.fill(value, i, i + 3);
  }
}

function toHsv(r: number, g: number, b: number): [hue: number, saturation: number, value: number] {
  const [most, least] = [Math.max(r, g, b), Math.min(r, g, b)];
  if (most === least) return [0, 0, most];
  const range = Math.fround(most - least);
  const from = (channel: number): number => Math.fround(Math.fround(most - channel) / range);
  const [red, green, blue] = [from(r), from(g), from(b)];
  let hue: number;
  if (r === most) hue = Math.fround(blue - green);
  else if (g === most) hue = Math.fround(2 + red - blue);
  else hue = Math.fround(4 + green - red);
  hue = Math.fround((hue / 6 + 1) % 1);
  return [byte(Math.trunc(hue * 255)), byte(Math.trunc(Math.fround(range / most) * 255)), most];
}

function toRgb(h: number, s: number, v: number): [number, number, number] {
  const sector = Math.floor((h * 6) / 255);
  const rest = Math.fround(Math.fround((h * 6) / 255) - sector);
  const saturation = Math.fround(s / 255);
  const p = byte(Math.round(v * (1 - saturation)));
  const q = byte(Math.round(v * (1 - saturation * rest)));
  const t = byte(Math.round(v * (1 - saturation * (1 - rest))));
  return (
    [
      [v, t, p],
      [q, v, p],
      [p, v, t],
      [p, q, v],
      [t, p, v],
      [v, p, q],
    ] as [number, number, number][]
  )[sector % 6]!;
}

function byte(value: number): number {
  return Math.max(0, Math.min(255, value));
}
