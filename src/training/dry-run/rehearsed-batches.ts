/** @file The batches of a dry run. */

import type { Size } from '../../base/rgb-image.js';
import type { DataLoader } from '../../data/data-loader.js';
import type { DatasetRow } from '../../data/dataset.js';
import type { Examples, Input, Sample } from '../../data/examples.js';
import { type PreparedRun, remainingBatches } from '../prepare.js';

/** The first batch warms up: files are paged in, and memory is allocated. The last one is measured. */
const BATCHES = 2;

/**
 * Yields the first two batches of the run; with buckets, twice the batch with the most pixels, because that one must fit
 * into memory. Each call yields the same batches.
 * @param inputs the inputs that the loader's batches hold
 * @throws DatasetError as the loader does
 */
export async function* rehearsedBatches(
  run: PreparedRun,
  loader: DataLoader,
  inputs: readonly Input[],
): AsyncGenerator<Examples> {
  const batches =
    run.buckets === undefined
      ? // Without an end: a run of one batch is measured, too.
        remainingBatches(loader, run.state, () => Number.POSITIVE_INFINITY)
      : largestBatches(run, run.buckets, loader, inputs);
  let yielded = 0;
  for await (const batch of batches) {
    // The run skips it, too.
    if (batch.rows.length === 0) continue;
    yield batch;
    if (++yielded === BATCHES) return;
  }
}

/** Yields the batch with the most pixels, without end. */
async function* largestBatches(
  { training: { config }, dataset }: PreparedRun,
  buckets: readonly Size[],
  loader: DataLoader,
  inputs: readonly Input[],
): AsyncGenerator<Examples> {
  const batchSize = config.batchSize * config.gradientAccumulationSteps;
  for (;;) {
    const rows = largestBatch(buckets, loader.badRows, batchSize);
    const samples = rows.map((row): Sample => {
      const { captions } = dataset.rows.at(row) as DatasetRow;
      const drop = { dropImage: false, dropText: false };
      return { row, drop, caption: captions[0] as string, flip: false };
    });
    // If a row of it cannot be read, another batch may be the largest.
    for await (const batch of loader.read(samples, inputs))
      if (batch.rows.length === rows.length) yield batch;
  }
}

/** Returns rows of one bucket that make the batch with the most pixels. Not all rows may be bad. */
function largestBatch(
  buckets: readonly Size[],
  badRows: ReadonlyMap<number, unknown>,
  batchSize: number,
): number[] {
  const rowsOf = new Map<Size, number[]>();
  buckets.forEach((bucket, row) => {
    const rows = rowsOf.get(bucket) ?? [];
    rowsOf.set(bucket, rows);
    if (rows.length < batchSize && !badRows.has(row)) rows.push(row);
  });
  const pixels = ([{ width, height }, { length }]: [Size, number[]]): number => width * height * length;
  const [, rows] = [...rowsOf].reduce((best, one) => (pixels(one) > pixels(best) ? one : best));
  return rows;
}
