/**
 * @file The image a diffusion model trains on: resized to cover a square, or the shape of a bucket, the centre cut out,
 * values in [-1, 1].
 *
 * Source: torchvision `transforms/functional.py` (`resize` with one number, `center_crop`) with a PIL image and
 * bilinear interpolation, then `ToTensor` and `Normalize([0.5], [0.5])`.
 */

import type { RgbImage, Size } from '../base/rgb-image.js';
import { roundHalfToEven } from '../base/round.js';
import { pixelTable } from './pixels.js';
import { type Resizing, resizeAndCrop, resizeAndCropAsync } from './resample.js';

/** Byte → (byte/255 − 0.5) / 0.5, in [-1, 1]. */
export const TRAIN_PIXELS = pixelTable(1 / 255, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);

/** The centre of `image` that has `size`, after `image` is resized to cover just that (up or down). */
export function trainCrop(image: RgbImage, size: Size): RgbImage {
  return resizeAndCrop(image, trainResizing(image, size));
}

/** The same in one of Node's threads. */
export function trainCropAsync(image: RgbImage, size: Size): Promise<RgbImage> {
  return resizeAndCropAsync(image, trainResizing(image, size));
}

/** The size of the resized image, and where in it the crop is. */
export function trainResizing(image: Size, size: Size): Resizing {
  const { width, height } = covering(image, size);
  const crop = {
    left: roundHalfToEven((width - size.width) / 2),
    top: roundHalfToEven((height - size.height) / 2),
    ...size,
  };
  return { width, height, crop, filter: 'bilinear' };
}

/** The size of `image` with its shorter side at `size`. */
export function shortestEdge(image: Size, size: number): Size {
  return covering(image, { width: size, height: size });
}

/** The smallest size of `image` that covers `size`: one side is equal, the longer one is cut to a whole number, not rounded. */
function covering(image: Size, { width, height }: Size): Size {
  return image.width * height <= width * image.height
    ? { width, height: Math.trunc((width * image.height) / image.width) }
    : { width: Math.trunc((height * image.width) / image.height), height };
}
