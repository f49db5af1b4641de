/** @file Counts the batches of an epoch, as the loader of a run plans them. */
import type { Size } from '../base/rgb-image.js';
import { cutBatches } from '../data/batch-plan.js';
import { countByBucket } from '../data/buckets.js';
import { epochOrder, epochRows } from '../data/epoch-order.js';
import type { TrainRows } from '../data/train-rows.js';
import type { BucketReport, DatasetReport } from './report.js';

/**
 * Returns what the first epoch of a run has.
 * @param buckets the bucket of each row; undefined: all are squares
 * @param badRows those that cannot be read: they keep their places in the batches, and a batch of such rows alone is no step
 */
export function firstEpoch(
  dataset: TrainRows,
  buckets: readonly Size[] | undefined,
  badRows: ReadonlySet<number>,
  {
    seed,
    batchSize,
    openShards,
    resolution,
  }: Record<'seed' | 'batchSize' | 'openShards' | 'resolution', number>,
): Pick<DatasetReport, 'buckets' | 'stepsPerEpoch' | 'partialBatches'> {
  const square = { width: resolution, height: resolution };
  const planned = epochRows({ ...dataset, buckets });
  const sizeOf = (index: number): Size => planned.buckets?.[index] ?? square;
  const isReadable = (index: number): boolean => !badRows.has(dataset.mixture?.at(0, index).row ?? index);
  const order = epochOrder(0, 0, { ...planned, seed, batchSize, openShards });
  let [stepsPerEpoch, partialBatches] = [0, 0];
  for (const batch of cutBatches(order, sizeOf, batchSize)) {
    const readable = batch.filter(isReadable).length;
    if (readable > 0) stepsPerEpoch++;
    if (readable > 0 && readable < batchSize) partialBatches++;
  }
  const counts =
    planned.buckets === undefined ? new Map([[square, planned.rows]]) : countByBucket(planned.buckets);
  return { buckets: bucketReports(counts, batchSize), stepsPerEpoch, partialBatches };
}

/** @returns from the tallest to the widest */
function bucketReports(counts: ReadonlyMap<Size, number>, batchSize: number): BucketReport[] {
  return [...counts]
    .sort(([a], [b]) => a.width / a.height - b.width / b.height)
    .map(([{ width, height }, rows]) => ({
      ...{ width, height, rows },
      batches: Math.ceil(rows / batchSize),
      partial: rows % batchSize,
    }));
}
