/**
 * @file Resize and crop RGB pictures with Pillow's resampling, bit for bit.
 *
 * Pillow (source: `src/libImaging/Resample.c`) works in fixed point: coefficients are rounded to 22 fractional
 * bits, rows are resampled first, and the result between the two passes is rounded to bytes. ATen's antialiased
 * operators use floating point and round once, sharp's kernels differ more; either is off by one level in many
 * pixels. The integer arithmetic below gives the very bytes the original trains on, and it costs less than the
 * decoding does.
 */
import type { RgbImage } from './image.js';

/** A rectangle in pixels: `left` columns and `top` rows are cut away before it. */
export interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export type ResampleFilter = 'bilinear' | 'bicubic';

/** A filter kernel: zero outside [-support, support]. */
interface Kernel {
  readonly support: number;
  weight(x: number): number;
}

const KERNELS: Record<ResampleFilter, Kernel> = {
  bilinear: {
    support: 1,
    weight: (x) => Math.max(0, 1 - Math.abs(x)),
  },
  // Keys's cubic convolution with a = -0.5, in Pillow's order of operations.
  bicubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
      return 0;
    },
  },
};

/** Fractional bits of a coefficient: 32 less 8 for the byte and 2 for overshoot. */
const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

/** For each output position: the first input position, the number of taps, and the taps' fixed-point weights. */
interface Coefficients {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `taps` weights for each output position, unused ones zero. */
  readonly weights: Int32Array;
  readonly taps: number;
}

/**
 * Coefficients of output positions `start` … `start + count - 1` when `inSize` samples become `outSize`.
 * Shrinking widens the kernel by the scale (antialiasing); enlarging leaves it as it is.
 */
function coefficients(
  inSize: number,
  outSize: number,
  start: number,
  count: number,
  kernel: Kernel,
): Coefficients {
  if (inSize === outSize) return identity(start, count);
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = kernel.support * filterScale;
  const taps = Math.ceil(support) * 2 + 1;
  const table = {
    first: new Int32Array(count),
    count: new Int32Array(count),
    weights: new Int32Array(count * taps),
    taps,
  };
  const row = new Float64Array(taps);
  for (let i = 0; i < count; i++) {
    const center = (start + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(inSize, Math.trunc(center + support + 0.5)) - first;
    let sum = 0;
    for (let k = 0; k < n; k++) {
      const w = kernel.weight((k + first - center + 0.5) * (1 / filterScale));
      row[k] = w;
      sum += w;
    }
    for (let k = 0; k < n; k++) {
      const fixed = (row[k]! / sum) * (1 << PRECISION_BITS);
      table.weights[i * taps + k] = Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    table.first[i] = first;
    table.count[i] = n;
  }
  return table;
}

/** The coefficients of a size that stays: every output is the input at its own position. */
function identity(start: number, count: number): Coefficients {
  return {
    first: Int32Array.from({ length: count }, (_, i) => start + i),
    count: new Int32Array(count).fill(1),
    weights: new Int32Array(count).fill(1 << PRECISION_BITS),
    taps: 1,
  };
}

/**
 * Resizes `image` to `width` × `height` and returns the part of the result inside `crop`; only the rows and
 * columns that the crop needs are computed. Equals Pillow's `image.resize((width, height), filter).crop(…)`.
 * @param crop must lie inside the resized picture.
 */
export function resizeAndCrop(
  image: RgbImage,
  width: number,
  height: number,
  crop: Rectangle,
  filter: ResampleFilter,
): RgbImage {
  const kernel = KERNELS[filter];
  const columns = coefficients(image.width, width, crop.left, crop.width, kernel);
  const rows = coefficients(image.height, height, crop.top, crop.height, kernel);

  // The input rows that any output row reads; the others need no horizontal pass.
  const last = crop.height - 1;
  const firstRow = rows.first[0]!;
  const rowCount = rows.first[last]! + rows.count[last]! - firstRow;

  // A size that stays needs no arithmetic.
  const narrow =
    width === image.width
      ? copyColumns(image, firstRow, rowCount, crop)
      : resampleHorizontally(image, firstRow, rowCount, columns);
  const data = height === image.height ? narrow : resampleVertically(narrow, crop.width * 3, firstRow, rows);
  return { data, width: crop.width, height: crop.height };
}

/** Rows `firstRow` … of `image`, cut to the crop's columns: rows × (crop width × 3) bytes. */
function copyColumns(image: RgbImage, firstRow: number, rowCount: number, crop: Rectangle): Uint8Array {
  const stride = crop.width * 3;
  const out = new Uint8Array(rowCount * stride);
  for (let y = 0; y < rowCount; y++) {
    const begin = ((firstRow + y) * image.width + crop.left) * 3;
    out.set(image.data.subarray(begin, begin + stride), y * stride);
  }
  return out;
}

/** Resamples `rowCount` rows from `firstRow` on: rows × (outputs × 3) bytes. */
function resampleHorizontally(
  image: RgbImage,
  firstRow: number,
  rowCount: number,
  table: Coefficients,
): Uint8Array {
  const { first, count, weights, taps } = table;
  const outputs = first.length;
  // The clamped array saturates to 0…255, as Pillow's clip8 does.
  const out = new Uint8ClampedArray(rowCount * outputs * 3);
  let o = 0;
  for (let y = 0; y < rowCount; y++) {
    const row = (firstRow + y) * image.width * 3;
    for (let x = 0; x < outputs; x++) {
      weightedPixel(image.data, row + first[x]! * 3, 3, weights, x * taps, count[x]!, out, o);
      o += 3;
    }
  }
  return new Uint8Array(out.buffer);
}

/** Resamples columns of rows of `stride` bytes, the first of which is input row `firstRow`. */
function resampleVertically(
  source: Uint8Array,
  stride: number,
  firstRow: number,
  table: Coefficients,
): Uint8Array {
  const { first, count, weights, taps } = table;
  const outputs = first.length;
  const out = new Uint8ClampedArray(outputs * stride);
  for (let y = 0; y < outputs; y++) {
    const column = (first[y]! - firstRow) * stride;
    for (let x = 0; x < stride; x += 3) {
      weightedPixel(source, column + x, stride, weights, y * taps, count[y]!, out, y * stride + x);
    }
  }
  return new Uint8Array(out.buffer);
}

/**
 * The weighted sum of `count` pixels of `source`, `step` bytes apart from `begin` on, written to `out` at `o`.
 * V8 inlines this into both passes; `| 0` spares it overflow checks, which cost a third of the time.
 */
function weightedPixel(
  source: Uint8Array,
  begin: number,
  step: number,
  weights: Int32Array,
  firstWeight: number,
  count: number,
  out: Uint8ClampedArray,
  o: number,
): void {
  let red = HALF;
  let green = HALF;
  let blue = HALF;
  let p = begin | 0;
  const end = (firstWeight + count) | 0;
  for (let k = firstWeight | 0; k < end; k = (k + 1) | 0) {
    const w = weights[k]!;
    red = (red + Math.imul(source[p]!, w)) | 0;
    green = (green + Math.imul(source[(p + 1) | 0]!, w)) | 0;
    blue = (blue + Math.imul(source[(p + 2) | 0]!, w)) | 0;
    p = (p + step) | 0;
  }
  out[o] = red >> PRECISION_BITS;
  out[o + 1] = green >> PRECISION_BITS;
  out[o + 2] = blue >> PRECISION_BITS;
}
