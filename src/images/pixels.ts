/**
 * @file Bytes to normalised floats: what torchvision's `ToTensor` + `Normalize` and transformers' `rescale` +
 * `normalize` do to an image, through one table of 3 × 256 float32 values.
 */
import type { RgbImage } from '../base/rgb-image.js';

/** A table of 3 × 256 values: the float for every byte of red, then green, then blue. */
export type PixelTable = Float32Array;

/**
 * The table of `(byte × scale − mean) / std`, with the rounding to float32 after each step that the Python
 * libraries have.
 * @param scale multiplies a byte, usually 1/255
 * @param mean and `std`: one number for each of red, green, blue, in units of the scaled byte
 */
export function pixelTable(scale: number, mean: readonly number[], std: readonly number[]): PixelTable {
  const table = new Float32Array(3 * 256);
  for (let c = 0; c < 3; c++) {
    const m = Math.fround(mean[c]!);
    const s = Math.fround(std[c]!);
    for (let byte = 0; byte < 256; byte++) {
      const scaled = Math.fround(byte * scale);
      table[c * 256 + byte] = Math.fround(scaled - m) / s;
    }
  }
  return table;
}

/** Writes `image` (height × width × 3 bytes) into `out` at `offset` as 3 × height × width floats by `table`. */
export function writePlanar(image: RgbImage, table: PixelTable, out: Float32Array, offset: number): void {
  const { data } = image;
  const plane = image.width * image.height;
  let red = offset;
  let green = offset + plane;
  let blue = green + plane;
  for (let p = 0; p < 3 * plane; p += 3) {
    out[red++] = table[data[p]!]!;
    out[green++] = table[256 + data[p + 1]!]!;
    out[blue++] = table[512 + data[p + 2]!]!;
  }
}
