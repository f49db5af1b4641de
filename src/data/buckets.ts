/**
 * @file Aspect-ratio buckets: images train in a few shapes of about the same area, each in the shape nearest its own,
 * instead of all losing what lies outside a square. A batch holds one shape.
 *
 * The rule is the field's (kohya-ss/sd-scripts `library/model_util.py`, `make_bucket_resolutions`;
 * NovelAI/novelai-aspect-ratio-bucketing `bucketmanager.py`). Everything here is a pure function, so that a resumed run
 * meets the same batches with no state to save.
 */
import type { Size } from '../base/rgb-image.js';
import { shuffledBatches, shuffledIndices } from './sampling.js';

/** Longer side / shorter side of the narrowest bucket. */
const MAX_RATIO = 2;

/** SD's UNet halves the latents three times and the VAE the pixels three times: this divides evenly through both. */
const MAX_STEP = 64;
/** The VAE makes 1 latent of 8 × 8 pixels. */
const MIN_STEP = 8;

/**
 * What the sides of buckets are multiples of: the largest step up to 64 that divides `resolution`, so that the square
 * bucket is the square of training without buckets, and that leaves a small resolution several shapes.
 * @param resolution a multiple of 8, in pixels
 */
function bucketStep(resolution: number): number {
  for (let step = MAX_STEP; step > MIN_STEP; step -= MIN_STEP)
    if (resolution % step === 0 && step <= resolution / 4) return step;
  return MIN_STEP;
}

/**
 * The buckets, from the tallest to the widest: for each shorter side, the longest other side that keeps the area within
 * `resolution`² and the ratio within 2. For 512: 320 × 640, 384 × 640, 448 × 576, 512 × 512, and the last three turned.
 * @param resolution a multiple of 8, in pixels
 */
export function bucketSizes(resolution: number): Size[] {
  const step = bucketStep(resolution);
  const wide: Size[] = [];
  for (let height = resolution; height > 0; height -= step) {
    const longest = Math.min(resolution ** 2 / height, MAX_RATIO * height);
    const width = Math.floor(longest / step) * step;
    wide.push({ width, height });
    // Shorter ones would have the same ratio, and less area.
    if (width === MAX_RATIO * height) break;
  }
  const tall = wide.slice(1).map(({ width, height }) => ({ width: height, height: width }));
  return [...tall.reverse(), ...wide];
}

/** The bucket whose aspect ratio is nearest that of `size` on a logarithmic scale; of two as near, the taller one. */
export function nearestBucket({ width, height }: Size, buckets: readonly Size[]): Size {
  // |log(a / b)| orders as the larger of a / b and b / a, which rounds the same everywhere.
  const distance = (bucket: Size): number => {
    const [a, b] = [width * bucket.height, height * bucket.width];
    return Math.max(a, b) / Math.min(a, b);
  };
  return buckets.reduce((best, bucket) => (distance(bucket) < distance(best) ? bucket : best));
}

/**
 * The order of the rows in one epoch, the rows of a batch beside each other: the shuffled rows fill their buckets, a full
 * bucket becomes a batch, what is left at the end becomes smaller ones, and the batches are shuffled in their turn.
 * @param buckets each row's bucket; rows share one if they have the same object
 * @param batchSize rows of a full batch, 1 or more
 */
export function bucketedOrder(
  seed: number,
  epoch: number,
  buckets: readonly Size[],
  batchSize: number,
): Uint32Array {
  const batches: number[][] = [];
  const open = new Map<Size, number[]>();
  for (const row of shuffledIndices(seed, epoch, buckets.length)) {
    const bucket = buckets[row]!;
    const batch = open.get(bucket) ?? [];
    batch.push(row);
    open.set(bucket, batch);
    if (batch.length === batchSize) {
      batches.push(batch);
      open.delete(bucket);
    }
  }
  batches.push(...open.values());
  const order = shuffledBatches(seed, epoch, batches.length);
  return Uint32Array.from([...order].flatMap((batch) => batches[batch]!));
}

/** Rows in each bucket that has any. */
export function countByBucket(buckets: readonly Size[]): Map<Size, number> {
  const counts = new Map<Size, number>();
  for (const bucket of buckets) counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  return counts;
}

/** How many batches `bucketedOrder` makes. */
export function countBatches(buckets: readonly Size[], batchSize: number): number {
  let batches = 0;
  for (const rows of countByBucket(buckets).values()) batches += Math.ceil(rows / batchSize);
  return batches;
}
