/**
 * @file Resizes and crops RGB images with Pillow's resampling, bit for bit.
 *
 * Pillow (`src/libImaging/Resample.c`) uses fixed-point numbers: it rounds coefficients to 22 fractional bits, resamples
 * the rows first, and rounds to bytes between the two passes. ATen's antialiased operators use floating point and round
 * once, and sharp's kernels differ more; both are off by one level in many pixels. Here the coefficients are computed, and
 * the addon sums. The result equals the bytes that the original trains on, and costs less than decoding.
 */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { type FixedPointFilter, resampleBytes, resampleBytesAsync } from '../torch/index.js';

/** A rectangle in pixels, from column `left` and row `top`. */
export interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export type ResampleFilter = 'bilinear' | 'bicubic' | 'lanczos';

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
  lanczos: {
    support: 3,
    weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0),
  },
};

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Fractional bits of a coefficient: 32 less 8 for the byte and 2 for overshoot. */
const PRECISION_BITS = 22;

/**
 * Returns the coefficients of output positions `start` … `start + count - 1` for resizing the first `extent` of `inSize`
 * samples, of which the last may count in part, to `outSize`.
 * For shrinking, the kernel is widened by the scale (antialiasing); for enlarging, it is not.
 */
function coefficients(
  inSize: number,
  extent: number,
  outSize: number,
  start: number,
  count: number,
  kernel: Kernel,
): FixedPointFilter {
  if (extent === outSize) return identity(start, count);
  const scale = extent / outSize;
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

/** Returns the coefficients for an unchanged size: every output is the input at the same position. */
function identity(start: number, count: number): FixedPointFilter {
  return {
    first: Int32Array.from({ length: count }, (_, i) => start + i),
    count: new Int32Array(count).fill(1),
    weights: new Int32Array(count).fill(1 << PRECISION_BITS),
  };
}

/** A new size, and the part of the resized image to keep. */
export interface Resizing extends Size {
  /** The part of the image that gets this size, as Pillow's `crop` cuts it out before. Default: all of it. */
  readonly box?: Rectangle | undefined;
  /** The part to keep, which must lie inside the new size. */
  readonly crop: Rectangle;
  readonly filter: ResampleFilter;
}

/**
 * Resizes `image` and returns the part of the result inside the crop. It equals Pillow's
 * `image.resize((width, height), filter).crop(…)`, but computes only the rows and columns of the crop.
 */
export function resizeAndCrop(image: RgbImage, resizing: Resizing): RgbImage {
  const { width, height } = resizing.crop;
  return { data: resampleBytes(...passes(image, resizing)), width, height };
}

/** Does the same in one of Node's threads. */
export async function resizeAndCropAsync(image: RgbImage, resizing: Resizing): Promise<RgbImage> {
  const { width, height } = resizing.crop;
  return { data: await resampleBytesAsync(...passes(image, resizing)), width, height };
}

function passes(image: RgbImage, resizing: Resizing): Parameters<typeof resampleBytes> {
  const { columns, rows } = filters(image, resizing);
  return [image.data, image.width, columns, rows];
}

/**
 * Returns the coefficients of both passes.
 * @param shrink how many times smaller than `image` the samples are, rounded up
 */
export function filters(
  image: Size,
  { width, height, crop, filter, box }: Resizing,
  shrink = 1,
): { columns: FixedPointFilter; rows: FixedPointFilter } {
  const kernel = KERNELS[filter];
  const along = (size: number, outSize: number, start: number, count: number): FixedPointFilter =>
    coefficients(Math.ceil(size / shrink), size / shrink, outSize, start, count, kernel);
  const { width: inWidth, height: inHeight } = box ?? image;
  return {
    columns: from(box?.left ?? 0, along(inWidth, width, crop.left, crop.width)),
    rows: from(box?.top ?? 0, along(inHeight, height, crop.top, crop.height)),
  };
}

/** Returns the coefficients of an image that begins at a sample. */
function from(start: number, filter: FixedPointFilter): FixedPointFilter {
  return start === 0 ? filter : { ...filter, first: filter.first.map((first) => first + start) };
}
