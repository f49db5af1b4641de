/**
 * @file The picture a diffusion model trains on: shorter side to `size`, centre square, values in [-1, 1].
 *
 * Source: torchvision `transforms/functional.py` (`resize` with one number, `center_crop`) with a PIL picture and
 * bilinear interpolation, then `ToTensor` and `Normalize([0.5], [0.5])`.
 */
import type { RgbImage } from './image.js';
import { pixelTable } from './pixels.js';
import { resizeAndCrop } from './resample.js';

/** Byte → (byte/255 − 0.5) / 0.5, in [-1, 1]. */
export const TRAIN_PIXELS = pixelTable(1 / 255, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);

/** The centre `size` × `size` square of `image`, after its shorter side is resized to `size` (up or down). */
export function trainCrop(image: RgbImage, size: number): RgbImage {
  const { width, height } = shortestEdge(image, size);
  const crop = {
    left: roundHalfToEven((width - size) / 2),
    top: roundHalfToEven((height - size) / 2),
    width: size,
    height: size,
  };
  return resizeAndCrop(image, width, height, crop, 'bilinear');
}

/** The size of `image` with its shorter side at `size`; the longer side is cut to a whole number, not rounded. */
export function shortestEdge(image: RgbImage, size: number): { width: number; height: number } {
  const { width, height } = image;
  return width <= height
    ? { width: size, height: Math.trunc((size * height) / width) }
    : { width: Math.trunc((size * width) / height), height: size };
}

/** Python's `round`: the crop's offset is a multiple of one half, and halves go to the even neighbour. */
function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
