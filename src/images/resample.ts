/**
 * @file Resize and crop RGB images with Pillow's resampling, bit for bit.
 *
 * Pillow (source: `src/libImaging/Resample.c`) works in fixed point: coefficients are rounded to 22 fractional
 * bits, rows are resampled first, and the result between the two passes is rounded to bytes. ATen's antialiased
 * operators use floating point and round once, sharp's kernels differ more; either is off by one level in many
 * pixels. Coefficients are made here, and the addon sums: this gives the very bytes the original trains on, and costs
 * less than the decoding does.
 */

import type { RgbImage, Size } from '../base/rgb-image.js';
import { type FixedPointFilter, resampleBytes, resampleBytesAsync } from '../torch/index.js';

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
): FixedPointFilter {
  if (inSize === outSize) return identity(start, count);
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = kernel.support * filterScale;
  const taps = Math.ceil(support) * 2 + 1;
  const table = {
    first: new Int32Array(count),
    count: new Int32Array(count),
    weights: new Int32Array(count * taps),
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
function identity(start: number, count: number): FixedPointFilter {
  return {
    first: Int32Array.from({ length: count }, (_, i) => start + i),
    count: new Int32Array(count).fill(1),
    weights: new Int32Array(count).fill(1 << PRECISION_BITS),
  };
}

/** A new size, and the part of the image in it that is wanted. */
export interface Resizing extends Size {
  /** Must lie inside the new size. */
  readonly crop: Rectangle;
  readonly filter: ResampleFilter;
}

/**
 * Resizes `image` and returns the part of the result inside the crop; only the rows and columns that it needs are
 * computed. Equals Pillow's `image.resize((width, height), filter).crop(…)`.
 */
export function resizeAndCrop(image: RgbImage, resizing: Resizing): RgbImage {
  const { width, height } = resizing.crop;
  return { data: resampleBytes(...passes(image, resizing)), width, height };
}

/** The same in one of Node's threads. */
export async function resizeAndCropAsync(image: RgbImage, resizing: Resizing): Promise<RgbImage> {
  const { width, height } = resizing.crop;
  return { data: await resampleBytesAsync(...passes(image, resizing)), width, height };
}

function passes(
  image: RgbImage,
  { width, height, crop, filter }: Resizing,
): Parameters<typeof resampleBytes> {
  const kernel = KERNELS[filter];
  const columns = coefficients(image.width, width, crop.left, crop.width, kernel);
  const rows = coefficients(image.height, height, crop.top, crop.height, kernel);
  return [image.data, image.width, columns, rows];
}
