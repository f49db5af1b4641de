/** @file Keeps datasets within some folders, for whoever may look at no others: a list, a link or a shard may name any file. */
import { DatasetError } from '../base/errors.js';
import { isWithin } from '../base/within-folders.js';
import { ImageError } from '../images/image.js';
import type { ImageSource } from '../images/image-source.js';
import { type DatasetRow, lazyRows } from './dataset.js';
import { openDataset } from './open-dataset.js';

const outside = "is not in the folders of the studio's datasets";

/** Returns `onFile` of `openDataset` that refuses lists, captions and shards outside of folders, wherever links lead. */
export function assertWithin(roots: readonly string[]): (file: string) => void {
  return (file) => {
    if (!isWithin(file, roots)) throw new DatasetError(`${file} ${outside}`);
  };
}

/** Returns a row whose images cannot be read where they are files outside of folders. */
export function rowWithin(row: DatasetRow, roots: readonly string[]): DatasetRow {
  const confined = (source: ImageSource): ImageSource => {
    const { file, name } = source;
    if (file === undefined || isWithin(file, roots)) return source;
    return { name, read: () => Promise.reject(new ImageError(name, `it ${outside}`)) };
  };
  const image = confined(row.image);
  return {
    ...row,
    image,
    // The same object where it is the same image.
    promptImage: row.promptImage === row.image ? image : confined(row.promptImage),
    ...(row.mask && { mask: confined(row.mask) }),
    ...(row.promptMask && { promptMask: confined(row.promptMask) }),
  };
}

/** Returns an `openDataset` of datasets within folders. */
export function openWithin(roots: readonly string[]): typeof openDataset {
  return async (options, hooks) => {
    const dataset = await openDataset(options, { ...hooks, onFile: assertWithin(roots) });
    const { rows } = dataset;
    const rowAt = (index: number): DatasetRow => rowWithin(rows.at(index) as DatasetRow, roots);
    return { ...dataset, rows: lazyRows(rows.length, rowAt) };
  };
}
