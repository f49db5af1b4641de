/** @file Resamples image bytes in fixed point, in the addon. `src/images/resample.ts` computes the filters. */
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/** For each output position: the first input position, the number of taps, and the taps' weights. */
export interface FixedPointFilter {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** The same number of weights for each output position, unused ones 0. 2^22 stands for 1; sums over bytes must fit in 32 bits. */
  readonly weights: Int32Array;
}

/**
 * Resamples rows by `columns`, rounds to bytes, then resamples columns by `rows`.
 * @param rgb height × width × 3 bytes
 * @returns `rows` outputs × `columns` outputs × 3 bytes
 */
export function resampleBytes(
  rgb: Uint8Array,
  width: number,
  columns: FixedPointFilter,
  rows: FixedPointFilter,
): Uint8Array {
  return native().resample(rgb, width, columns, rows);
}

/** Does the same in one of Node's worker threads. The arrays must not be changed until it has finished. */
export async function resampleBytesAsync(
  rgb: Uint8Array,
  width: number,
  columns: FixedPointFilter,
  rows: FixedPointFilter,
): Promise<Uint8Array> {
  return native().resampleAsync(rgb, width, columns, rows);
}

/**
 * Writes the numbers that a table has for the bytes of red, then of green, then of blue, of one image after another.
 * @param images height × width × 3 bytes each; null: zeros
 * @param table 3 × 256 numbers: one for each byte of red, then of green, then of blue
 * @param out contiguous float32 on the CPU, [images, 3, height, width]
 */
export function writePlanarBytes(
  images: readonly (Uint8Array | null)[],
  table: Float32Array,
  out: Tensor,
): void {
  native().writePlanar(images, table, out.handle);
}
