/** @file Rows that are held out from training, to measure on. */
import { createHash } from 'node:crypto';
import { sep } from 'node:path';
import { DatasetError } from '../base/errors.js';
import { type Dataset, type DatasetRow, ListHash, lazyRows, promptMaskOf, type Rows } from './dataset.js';
import type { Groups } from './groups.js';

/**
 * Holds out rows: those whose names have the smallest hashes with the seed. So the same rows are held out whatever their
 * order, wherever the folder is, and most of them also if rows are added.
 * A held-out row with a group has a reference of its group that stays the same, and then no group.
 * @param count rows to hold out, 1 or more
 * @param groups of the dataset
 * @throws DatasetError where nothing would be left to train on
 */
export function splitDataset(
  dataset: Dataset,
  count: number,
  seed: number,
  groups?: Groups,
): { train: Dataset; heldOut: Rows } {
  const { rows } = dataset;
  if (count >= rows.length)
    throw new DatasetError(
      `--validation-split (validationSplit) holds out ${count} rows and the dataset has ${rows.length}; hold out fewer, or give more data`,
    );
  const heldOut = smallestHashes(rows, count, seed);
  const isHeldOut = new Set(heldOut);
  const trained = new Uint32Array(rows.length - count);
  for (let row = 0, next = 0; row < rows.length; row++) if (!isHeldOut.has(row)) trained[next++] = row;
  const hash = new ListHash();
  for (const value of [dataset.fingerprint, ...heldOut]) hash.add(value);
  return {
    train: {
      ...dataset,
      rows: selected(rows, trained),
      shards: dataset.shards && shardsOf(dataset.shards, trained),
      parts: dataset.parts && shardsOf(dataset.parts, trained),
      fingerprint: hash.digest(),
    },
    heldOut: selected(withReferences(rows, seed, groups), Uint32Array.from(heldOut)),
  };
}

/** Returns rows that have the image of another one of their group as their reference, the same in all epochs. */
export function withReferences(rows: Rows, seed: number, groups: Groups | undefined): Rows {
  if (groups === undefined) return rows;
  return lazyRows(rows.length, (row) => {
    const [reference = row] = groups.referencesOf(row, { seed, epoch: 0, draw: row, count: 1 });
    const referenceRow = rows.at(reference) as DatasetRow;
    const [{ promptImage }, promptMask] = [referenceRow, promptMaskOf(referenceRow)];
    return { ...(rows.at(row) as DatasetRow), promptImage, promptMask, group: undefined };
  });
}

function selected(rows: Rows, indices: Uint32Array): Rows {
  return lazyRows(indices.length, (i) => rows.at(indices[i] as number) as DatasetRow);
}

/** Returns how many of the rows are in each shard. @param indices ascending */
function shardsOf(shards: readonly number[], indices: Uint32Array): number[] {
  let [end, next] = [0, 0];
  return shards.map((count) => {
    end += count;
    const first = next;
    while (next < indices.length && (indices[next] as number) < end) next++;
    return next - first;
  });
}

/** Returns the indices of the rows with the smallest hashes, ascending; a tie goes to the first. */
function smallestHashes(rows: Rows, count: number, seed: number): number[] {
  const { length } = commonFolder(rows);
  // As many digits as a double holds exactly: one number for each row, and no text.
  const hashes = new Float64Array(rows.length);
  for (let row = 0; row < rows.length; row++) {
    const name = (rows.at(row) as DatasetRow).image.name.slice(length);
    hashes[row] = Number.parseInt(
      createHash('sha256').update(`${seed}\n${name}`).digest('hex').slice(0, 13),
      16,
    );
  }
  const order = Uint32Array.from(hashes.keys());
  order.sort((a, b) => (hashes[a] as number) - (hashes[b] as number) || a - b);
  return [...order.subarray(0, count)].sort((a, b) => a - b);
}

/** Returns the folder that the names of all images begin with. */
function commonFolder(rows: Rows): string {
  let common: string | undefined;
  for (const { image } of rows) {
    const folder = image.name.slice(0, image.name.lastIndexOf(sep) + 1);
    common ??= folder;
    while (!folder.startsWith(common))
      common = common.slice(0, common.lastIndexOf(sep, common.length - 2) + 1);
  }
  return common ?? '';
}
