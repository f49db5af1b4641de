/** @file Weighted sums of pixels in fixed point, in the addon: what src/images/resample.ts does to every image. */
import { native } from './native.js';

/** For each output position: the first input position, the number of taps, and the taps' weights. */
export interface FixedPointFilter {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** As many weights for each output position, unused ones zero; 1 is 2^22, and what they make of a byte fits in 32 bits. */
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

/** The same in one of Node's threads; nothing may be written to the arrays before it is done. */
export async function resampleBytesAsync(
  rgb: Uint8Array,
  width: number,
  columns: FixedPointFilter,
  rows: FixedPointFilter,
): Promise<Uint8Array> {
  return native().resampleAsync(rgb, width, columns, rows);
}
