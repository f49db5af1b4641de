/** @file Assigns the rows of a dataset to buckets, by the sizes of their images. */
import type { Size } from '../base/rgb-image.js';
import { bucketSizes, countByBucket, nearestBucket } from './buckets.js';

/**
 * Returns the bucket of each row; rows of one bucket have the same object.
 * @param sizes the size of each row's image; null is assigned to the square bucket
 */
export function rowBuckets(
  sizes: readonly (Size | null)[],
  resolution: number,
  onMessage?: (message: string) => void,
): Size[] {
  const buckets = bucketSizes(resolution);
  const square = { width: 1, height: 1 };
  const ofRows = sizes.map((size) => nearestBucket(size ?? square, buckets));
  const counts = countByBucket(ofRows);
  const shown = buckets
    .filter((bucket) => counts.has(bucket))
    .map((bucket) => `${bucket.width}x${bucket.height}: ${counts.get(bucket)}`);
  onMessage?.(`Buckets: ${shown.join(', ')}`);
  return ofRows;
}
