/**
 * @file Converts bytes to normalised floats, as torchvision's `ToTensor` + `Normalize` and transformers' `rescale` +
 * `normalize` do, by a table of 3 × 256 float32 values.
 */
import type { RgbImage } from '../base/rgb-image.js';
import { writePlanarBytes } from '../torch/index.js';

/** A table of 3 × 256 floats: one for each byte of red, then of green, then of blue. */
export type PixelTable = Float32Array;

/**
 * Returns the table of `(byte × scale − mean) / std`, rounded to float32 after each operation, as in the Python libraries.
 * @param scale the factor of a byte, usually 1/255
 * @param mean the mean of red, green and blue, in units of the scaled byte
 * @param std the standard deviation of red, green and blue, in the same units
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

/** Converts `image` (height × width × 3 bytes) by `table` and writes 3 × height × width floats into `out` at `offset`. */
export function writePlanar(image: RgbImage, table: PixelTable, out: Float32Array, offset: number): void {
  writePlanarBytes(image.data, table, out, offset);
}
