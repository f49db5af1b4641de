/** @file Opens datasets whose files are all in some folders, for whoever may look at no others. */
import { DatasetError } from '../base/errors.js';
import { isWithin } from '../base/within-folders.js';
import { type DatasetRow, lazyRows } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { ImageError } from '../images/image.js';
import type { ImageSource } from '../images/image-source.js';

/**
 * Returns an `openDataset` that refuses lists and shards outside of folders, wherever links lead. Images that are files
 * outside cannot be read.
 */
export function confinedTo(roots: readonly string[]): typeof openDataset {
  const assertWithin = (file: string): void => {
    if (!isWithin(file, roots)) throw new DatasetError(`${file} ${outside}`);
  };
  const confined = (source: ImageSource): ImageSource => {
    const { file, name } = source;
    if (file === undefined || isWithin(file, roots)) return source;
    return {
      name,
      read: async () => {
        throw new ImageError(name, `it ${outside}`);
      },
    };
  };
  const confinedRow = (row: DatasetRow): DatasetRow => {
    const image = confined(row.image);
    return {
      ...row,
      image,
      // The same object where it is the same image.
      promptImage: row.promptImage === row.image ? image : confined(row.promptImage),
      ...(row.mask && { mask: confined(row.mask) }),
      ...(row.promptMask && { promptMask: confined(row.promptMask) }),
    };
  };
  return async (options, hooks) => {
    const dataset = await openDataset(options, { ...hooks, onFile: assertWithin });
    const { rows } = dataset;
    return { ...dataset, rows: lazyRows(rows.length, (index) => confinedRow(rows.at(index) as DatasetRow)) };
  };
}

const outside = "is not in the folders of the studio's datasets";
