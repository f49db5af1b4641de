/**
 * @file Images as the numbers that a model takes: normalised floats, as torchvision's `ToTensor` + `Normalize` and transformers'
 * `rescale` + `normalize` make them, by a table of 3 × 256 float32 values.
 */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { empty, type Tensor, writePlanarBytes } from '../torch/index.js';

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

/**
 * Images of one size, and the table of their numbers. They stay bytes, a quarter of the memory, until they are asked for as a
 * tensor, whose memory LibTorch reuses; arrays of JavaScript's would be new, and zeroed, and collected, for every batch.
 */
export class PixelValues {
  /** [n, 3, height, width] */
  readonly shape: readonly [number, number, number, number];

  /** @param images height × width × 3 bytes each; null: zeros, after normalisation */
  constructor(
    readonly images: readonly (RgbImage | null)[],
    readonly table: PixelTable,
    { width, height }: Size,
  ) {
    this.shape = [images.length, 3, height, width];
  }

  /** Returns them as float32 on the CPU. */
  toTensor(): Tensor {
    const values = empty(this.shape);
    const bytes = this.images.map((image) => image?.data ?? null);
    writePlanarBytes(bytes, this.table, values);
    return values;
  }
}
