/**
 * @file The global batches of an epoch, and the part of each that one of several processes reads. Every process goes through
 * the same global batches, so the place in the data, and what is trained on, do not depend on the number of processes.
 */
import type { Size } from '../base/rgb-image.js';

/** One of several processes that read a dataset together. */
export interface Share {
  /** 0 … worldSize - 1 */
  readonly rank: number;
  /** The number of processes, 1 or more. */
  readonly worldSize: number;
}

/**
 * Yields rows in batches: a batch ends where it is full, or where the next row has another size.
 * @param sizeOf returns the same object for rows that can share a batch
 * @param batchSize rows of a full batch, 1 or more
 */
export function* cutBatches<Row>(
  rows: Iterable<Row>,
  sizeOf: (row: Row) => Size,
  batchSize: number,
): Generator<Row[]> {
  let batch: Row[] = [];
  for (const row of rows) {
    const [first] = batch;
    if (first !== undefined && (batch.length === batchSize || sizeOf(first) !== sizeOf(row))) {
      yield batch;
      batch = [];
    }
    batch.push(row);
  }
  if (batch.length > 0) yield batch;
}

/**
 * Returns which of the `count` rows of a global batch a process reads, as [first, end). The processes' parts are adjacent,
 * cover the batch, and differ by at most one row; with fewer rows than processes some are empty.
 */
export function shareOf(count: number, { rank, worldSize }: Share): [first: number, end: number] {
  return [Math.floor((rank * count) / worldSize), Math.floor(((rank + 1) * count) / worldSize)];
}
