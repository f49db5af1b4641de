/** @file Masks of images: white where the image counts. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { greyAt } from './color-jitter.js';
import { ImageError, readImageSize } from './image.js';
import type { ImageSource } from './image-source.js';
import type { Rectangle } from './resample.js';

/** From this grey on a pixel belongs to what a mask shows. */
const WHITE = 128;

/** Returns the smallest rectangle with everything that a mask shows; null where it shows nothing. */
export function boundsOf({ data, width, height }: RgbImage): Rectangle | null {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i += 3) {
      if (greyAt(data, i) < WHITE) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** Returns the greys of a mask, 0 … 255. */
export function greysOf({ data }: RgbImage): Uint8Array {
  return Uint8Array.from({ length: data.length / 3 }, (_, i) => greyAt(data, 3 * i));
}

/** Returns the image on a background of one colour, mixed by the greys of its mask. */
export function onBackground(image: RgbImage, mask: RgbImage, colour: readonly number[]): RgbImage {
  const data = new Uint8Array(image.data.length);
  for (let i = 0; i < data.length; i += 3) {
    const share = greyAt(mask.data, i) / 255;
    for (let c = 0; c < 3; c++)
      data[i + c] = Math.round(colour[c]! + share * (image.data[i + c]! - colour[c]!));
  }
  return { ...image, data };
}

/** The mask is black: it would leave nothing. */
export function blackMask(mask: ImageSource): ImageError {
  return new ImageError(mask.name, 'it is a mask that is black where the image is used; it keeps nothing');
}

/** @throws ImageError where a mask has another size than its image */
export function assertMaskFits(mask: ImageSource, size: Size, image: Size): void {
  if (size.width !== image.width || size.height !== image.height)
    throw new ImageError(
      mask.name,
      `it is a mask of ${size.width} × ${size.height} pixels, and its image has ${image.width} × ${image.height}`,
    );
}

/** Reads the sizes of a mask and its image from their headers. @throws ImageError where they differ, or cannot be read */
export async function assertSameSize(mask: ImageSource, image: ImageSource): Promise<void> {
  const [own, other] = await Promise.all([readImageSize(mask), readImageSize(image)]);
  assertMaskFits(mask, own, other);
}
