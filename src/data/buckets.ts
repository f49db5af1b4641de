/**
 * @file Aspect-ratio buckets: images are trained in a few shapes of about the same area, each in the shape closest to its
 * own, instead of being cropped to a square. All images of a batch have one shape.
 *
 * The rule is the usual one (kohya-ss/sd-scripts `library/model_util.py`, `make_bucket_resolutions`;
 * NovelAI/novelai-aspect-ratio-bucketing `bucketmanager.py`). All functions are pure, so a resumed run has the same batches
 * without saved state.
 */
import type { Size } from '../base/rgb-image.js';
import { shuffledBatches, shuffledIndices } from './sampling.js';

/** Longer side / shorter side of the narrowest bucket. */
const MAX_RATIO = 2;

/** SD's UNet halves the latents three times, and the VAE halves the pixels three times: multiples of 64 divide evenly. */
const MAX_STEP = 64;
/** The VAE makes 1 latent of 8 × 8 pixels. */
const MIN_STEP = 8;

/**
 * Returns the number that the sides of buckets are multiples of: the largest step up to 64 that divides `resolution`, so
 * that the square bucket is as large as without buckets, and that is small enough for several shapes.
 * @param resolution a multiple of 8, in pixels
 */
function bucketStep(resolution: number): number {
  for (let step = MAX_STEP; step > MIN_STEP; step -= MIN_STEP)
    if (resolution % step === 0 && step <= resolution / 4) return step;
  return MIN_STEP;
}

/**
 * Returns the buckets, from the tallest to the widest: for each shorter side, the longest other side that keeps the area
 * within `resolution`² and the ratio within 2. For 512: 320 × 640, 384 × 640, 448 × 576, 512 × 512, 576 × 448, …
 * @param resolution a multiple of 8, in pixels
 */
export function bucketSizes(resolution: number): Size[] {
  const step = bucketStep(resolution);
  const wide: Size[] = [];
  for (let height = resolution; height > 0; height -= step) {
    const longest = Math.min(resolution ** 2 / height, MAX_RATIO * height);
    const width = Math.floor(longest / step) * step;
    wide.push({ width, height });
    // Smaller heights would have the same ratio and a smaller area.
    if (width === MAX_RATIO * height) break;
  }
  const tall = wide.slice(1).map(({ width, height }) => ({ width: height, height: width }));
  return [...tall.reverse(), ...wide];
}

/** Returns the bucket whose aspect ratio is closest to that of `size` on a logarithmic scale; the taller one of two equal ones. */
export function nearestBucket({ width, height }: Size, buckets: readonly Size[]): Size {
  // max(a, b) / min(a, b) has the same order as |log(a / b)|, and is rounded in the same way on every machine.
  const distance = (bucket: Size): number => {
    const [a, b] = [width * bucket.height, height * bucket.width];
    return Math.max(a, b) / Math.min(a, b);
  };
  return buckets.reduce((best, bucket) => (distance(bucket) < distance(best) ? bucket : best));
}

/**
 * Returns the order of the rows in one epoch, with the rows of a batch next to each other: shuffled rows are batched as
 * `bucketBatches` does, then the batches are shuffled.
 * @param buckets the bucket of each row; rows of one bucket have the same object
 * @param batchSize rows of a full batch, 1 or more
 */
export function bucketedOrder(
  seed: number,
  epoch: number,
  buckets: readonly Size[],
  batchSize: number,
): Uint32Array {
  const rows = shuffledIndices(seed, epoch, buckets.length);
  const batches = [...bucketBatches(rows, buckets, batchSize)];
  const order = shuffledBatches(seed, epoch, batches.length);
  return Uint32Array.from([...order].flatMap((batch) => batches[batch]!));
}

/** Yields rows in batches: rows fill the buckets; a full bucket becomes a batch; the rest becomes smaller batches at the end. */
export function* bucketBatches(
  rows: Iterable<number>,
  buckets: readonly Size[],
  batchSize: number,
): Generator<number[]> {
  const open = new Map<Size, number[]>();
  for (const row of rows) {
    const bucket = buckets[row]!;
    const batch = open.get(bucket) ?? [];
    batch.push(row);
    open.set(bucket, batch);
    if (batch.length === batchSize) {
      yield batch;
      open.delete(bucket);
    }
  }
  yield* open.values();
}

/** Returns the number of rows in each bucket that has any. */
export function countByBucket(buckets: readonly Size[]): Map<Size, number> {
  const counts = new Map<Size, number>();
  for (const bucket of buckets) counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  return counts;
}

/** Returns the number of batches that `bucketedOrder` makes. */
export function countBatches(buckets: readonly Size[], batchSize: number): number {
  let batches = 0;
  for (const rows of countByBucket(buckets).values()) batches += Math.ceil(rows / batchSize);
  return batches;
}
