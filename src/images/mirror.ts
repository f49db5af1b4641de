/** @file Mirrors images (torchvision `RandomHorizontalFlip`). */
import type { RgbImage } from '../base/rgb-image.js';

/** Returns a copy of the image with left and right exchanged. */
export function mirror({ data, width, height }: RgbImage): RgbImage {
  const mirrored = new Uint8Array(data.length);
  const last = 3 * (width - 1);
  for (let row = 0; row < data.length; row += 3 * width) {
    for (let x = 0; x <= last; x += 3) {
      const [from, to] = [row + x, row + last - x];
      mirrored[to] = data[from]!;
      mirrored[to + 1] = data[from + 1]!;
      mirrored[to + 2] = data[from + 2]!;
    }
  }
  return { data: mirrored, width, height };
}
