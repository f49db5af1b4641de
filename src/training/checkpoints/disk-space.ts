/** @file The disk space that a run takes, told before its first step. */
import { existsSync, statfsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { formatBytes } from '../../base/format-bytes.js';
import type { ResolvedTrainOptions } from '../../options/train-options.js';
import { type Checkpoint, type CheckpointSizes, checkpointSizes } from './checkpoint.js';

/** The checkpoints that the rest of a run writes. */
export interface CheckpointPlan {
  sizes: CheckpointSizes;
  /** How many of them are left at the end. */
  count: number;
  /** Bytes of those. */
  bytes: number;
  /** The most bytes at a time: older ones are deleted when the newest is complete. */
  peakBytes: number;
}

/**
 * Returns the plan: a checkpoint at each multiple of `saveSteps`, and one at the end.
 * @param checkpoint the run now
 */
export function planCheckpoints(
  checkpoint: Checkpoint,
  {
    saveSteps,
    checkpointsTotalLimit = Number.POSITIVE_INFINITY,
    checkpointContent,
    keepBest,
  }: Pick<ResolvedTrainOptions, 'saveSteps' | 'checkpointsTotalLimit' | 'checkpointContent' | 'keepBest'>,
): CheckpointPlan {
  const { step, totalSteps } = checkpoint.state;
  const sizes = checkpointSizes(checkpoint);
  const saves = step >= totalSteps ? 0 : Math.ceil(totalSteps / saveSteps) - Math.floor(step / saveSteps);
  const count = Math.min(saves, checkpointsTotalLimit + (keepBest === undefined ? 0 : 1));
  const older = checkpointContent === 'adapter' ? sizes.adapter : sizes.whole;
  const bytes = count === 0 ? 0 : sizes.whole + (count - 1) * older;
  // While the newest is written, the one before is still whole, and the one that is too many still there.
  const spare = saves > count ? sizes.whole : count > 1 ? sizes.whole - older : 0;
  return { sizes, count, bytes, peakBytes: bytes + spare };
}

/** What a run writes into a folder, and what is free there. */
export interface DiskNeed {
  folder: string;
  bytes: number;
  freeBytes: number;
}

/** Returns the needs of folders that may not exist yet; those on one file system are one, under the name of the first. */
export function diskNeeds(wanted: readonly (readonly [folder: string, bytes: number])[]): DiskNeed[] {
  const needs = new Map<number, DiskNeed>();
  for (const [folder, bytes] of wanted) {
    const existing = nearestExisting(folder);
    const { dev } = statSync(existing);
    const { bavail, bsize } = statfsSync(existing);
    const need = needs.get(dev) ?? { folder, bytes: 0, freeBytes: bavail * bsize };
    needs.set(dev, { ...need, bytes: need.bytes + bytes });
  }
  return [...needs.values()];
}

function nearestExisting(folder: string): string {
  let path = resolve(folder);
  while (!existsSync(path)) path = dirname(path);
  return path;
}

/** Describes the checkpoints of a run, with what to do where they do not fit. */
export function describeCheckpoints(
  { sizes, count, bytes, peakBytes }: CheckpointPlan,
  outputDir: string,
): string {
  const [{ freeBytes }] = diskNeeds([[outputDir, peakBytes]]) as [DiskNeed];
  const each = `A checkpoint takes ${formatBytes(sizes.whole)}, ${formatBytes(sizes.adapter)} of them the adapter`;
  const all = `the run leaves ${count}, ${formatBytes(bytes)} in all`;
  const free = `${formatBytes(freeBytes)} are free in ${outputDir}`;
  const remedy =
    peakBytes > freeBytes
      ? `, too little: give --checkpoints-total-limit, --checkpoint-content adapter, more --save-steps, or another --output-dir`
      : '';
  return `${each}; ${all}; ${free}${remedy}`;
}
