/** @file Chooses the batches of a dry run. */
import type { DataLoader, Examples, Input, Sample } from '../../data/data-loader.js';
import type { DatasetRow } from '../../data/dataset.js';
import type { Size } from '../../images/image.js';
import { batchesFrom, type PreparedRun } from '../train.js';

/** The first one warms up (reads pages from the disk, takes memory from the system); the last one is measured. */
const BATCHES = 2;

/**
 * Yields the first two batches of the run; with buckets, the batch with the most pixels twice, because that one must fit
 * into memory. Every call yields the same ones.
 * @param inputs of the loader's batches
 * @throws DatasetError as the loader
 */
export async function* rehearsedBatches(
  run: PreparedRun,
  loader: DataLoader,
  inputs: readonly Input[],
): AsyncGenerator<Examples> {
  const batches =
    run.buckets === undefined
      ? // A run may end before its second batch, which is measured here.
        batchesFrom(loader, run.state, Number.POSITIVE_INFINITY)
      : largestBatches(run, run.buckets, loader, inputs);
  let given = 0;
  for await (const batch of batches) {
    yield batch;
    if (++given === BATCHES) return;
  }
}

/** Yields the largest batch repeatedly. */
async function* largestBatches(
  { training: { config }, dataset }: PreparedRun,
  buckets: readonly Size[],
  loader: DataLoader,
  inputs: readonly Input[],
): AsyncGenerator<Examples> {
  const batchSize = config.batchSize * config.gradientAccumulationSteps;
  for (;;) {
    const rows = largestBatch(buckets, loader.badRows, batchSize);
    // This throws, because no row can be read.
    if (rows.length === 0) yield* loader.batches(0);
    const samples = rows.map((row): Sample => {
      const { captions } = dataset.rows.at(row) as DatasetRow;
      const drop = { dropImage: false, dropText: false };
      return { row, drop, caption: captions[0] as string, flip: false };
    });
    // Without a row that cannot be read, another batch may be the largest.
    for await (const batch of loader.read(samples, inputs))
      if (batch.rows.length === rows.length) yield batch;
  }
}

/** Returns the rows of one bucket that make the batch with the most pixels; none where all are bad. */
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
