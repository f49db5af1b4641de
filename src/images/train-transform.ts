/**
 * @file The transform of training images: resizes an image to cover a square or a bucket, crops the centre, and scales the
 * values to [-1, 1].
 *
 * Source: torchvision `transforms/functional.py` (`resize` with one number, `center_crop`) with a PIL image and
 * bilinear interpolation, then `ToTensor` and `Normalize([0.5], [0.5])`.
 */

import type { RgbImage, Size } from '../base/rgb-image.js';
import { roundHalfToEven } from '../base/round.js';
import { pixelTable } from './pixels.js';
import { type Resizing, resizeAndCrop } from './resample.js';

/** Byte → (byte/255 − 0.5) / 0.5, in [-1, 1]. */
export const TRAIN_PIXELS = pixelTable(1 / 255, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);

/** Resizes `image` (up or down) so that it just covers `size`, and returns the centre of that size. */
export function trainCrop(image: RgbImage, size: Size): RgbImage {
  return resizeAndCrop(image, trainResizing(image, size));
}

/** Returns the size of the resized image, and the crop in it. Offsets are rounded as by Python's `round`. */
export function trainResizing(image: Size, size: Size): Resizing {
  const { width, height } = covering(image, size);
  const crop = {
    left: roundHalfToEven((width - size.width) / 2),
    top: roundHalfToEven((height - size.height) / 2),
    ...size,
  };
  return { width, height, crop, filter: 'bilinear' };
}

/** Returns the size of `image` after resizing its shorter side to `size`. */
export function shortestEdge(image: Size, size: number): Size {
  return covering(image, { width: size, height: size });
}

/** Returns the smallest size in the shape of `image` that covers `size`. The longer side is truncated, not rounded. */
function covering(image: Size, { width, height }: Size): Size {
  return image.width * height <= width * image.height
    ? { width, height: Math.trunc((width * image.height) / image.width) }
    : { width: Math.trunc((height * image.width) / image.height), height };
}
