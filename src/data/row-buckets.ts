/** @file The bucket of each row of a dataset, by the size in the header of its image. */

import { forEachConcurrently } from '../base/concurrently.js';
import { Throttle } from '../base/throttle.js';
import { ImageError, readImageSize, type Size } from '../images/image.js';
import type { ImageSource } from '../images/image-source.js';
import { bucketSizes, countByBucket, nearestBucket } from './buckets.js';
import type { Rows } from './dataset.js';

export interface ReadBucketsHooks {
  onMessage?: ((message: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Headers that are read at the same time, in libuv's threads. */
const READ_AT_ONCE = 16;

/**
 * Reads the header of every row's training image, at each start. A row whose header cannot be read gets the square: it
 * is skipped and told like any bad row when its turn comes.
 * @returns by row; rows of one bucket have the same object
 * @throws the signal's reason when it is aborted
 */
export async function readBuckets(
  rows: Rows,
  resolution: number,
  { onMessage, signal }: ReadBucketsHooks = {},
): Promise<Size[]> {
  const sizes = bucketSizes(resolution);
  const square = nearestBucket({ width: 1, height: 1 }, sizes);
  const buckets = new Array<Size>(rows.length).fill(square);
  let done = 0;
  const throttle = new Throttle();
  onMessage?.(`Buckets: reading the sizes of ${rows.length} images`);
  const read = async (index: number, image: ImageSource): Promise<void> => {
    try {
      buckets[index] = nearestBucket(await readImageSize(image), sizes);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
    }
    done++;
    if (throttle.isDue()) onMessage?.(`Buckets: ${done} of ${rows.length} sizes read`);
  };
  await forEachConcurrently(rows, READ_AT_ONCE, ({ image }, index) => read(index, image), signal);
  const counts = countByBucket(buckets);
  const told = sizes
    .filter((size) => counts.has(size))
    .map((size) => `${size.width}x${size.height}: ${counts.get(size)}`);
  onMessage?.(`Buckets: ${told.join(', ')}`);
  return buckets;
}
