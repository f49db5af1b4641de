/** @file Reads the sizes of all training images from their headers. */
import { forEachConcurrently } from '../base/concurrently.js';
import type { Size } from '../base/rgb-image.js';
import { Throttle } from '../base/throttle.js';
import { ImageError, readImageSize } from '../images/image.js';
import type { DatasetRow, Rows } from './dataset.js';

export interface ReadSizesHooks {
  onMessage?: ((message: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** The number of headers that are read at the same time, in libuv's threads. */
const READ_AT_ONCE = 16;

/**
 * Reads the header of every row's training image.
 * @returns the size of each row's image; null where the header cannot be read (the loader then reports the row)
 * @throws the signal's reason when it is aborted
 */
export async function readRowSizes(
  rows: Rows,
  { onMessage, signal }: ReadSizesHooks = {},
): Promise<(Size | null)[]> {
  const sizes = new Array<Size | null>(rows.length).fill(null);
  let done = 0;
  const throttle = new Throttle();
  onMessage?.(`Reading the sizes of ${rows.length} images`);
  const read = async (index: number): Promise<void> => {
    sizes[index] = await readRowSize(rows.at(index)!);
    done++;
    if (throttle.isDue()) onMessage?.(`Sizes of ${done} of ${rows.length} images read`);
  };
  await forEachConcurrently(rows, READ_AT_ONCE, (_, index) => read(index), signal);
  return sizes;
}

/** Returns the size in the header of a row's training image; null where it cannot be read. */
export async function readRowSize({ image }: DatasetRow): Promise<Size | null> {
  try {
    return await readImageSize(image);
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}
