/** @file Size conditioning of training batches, for families that have it (SDXL's `time_ids`). */

import type { Size } from '../../base/rgb-image.js';
import type { Examples } from '../../data/examples.js';
import type { ImageSizes } from '../../diffusion/conditioning.js';
import type { DiffusionModel, SizeConditioning } from '../../diffusion/model.js';
import { trainResizing } from '../../images/train-transform.js';
import type { Device } from '../../torch/index.js';

/**
 * Returns the function that makes the size conditioning of a batch; null for a family without.
 * @param sizes the sizes of the rows' images; null where one cannot be read, whose row is in no batch
 * @param targetOf returns the size of a row's training image
 */
export function rowSizeConditioning(
  { sizeConditioning }: Pick<DiffusionModel, 'sizeConditioning'>,
  sizes: readonly (Size | null)[],
  targetOf: (row: number) => Size,
  device: Device,
): ((batch: Examples) => SizeConditioning) | null {
  if (sizeConditioning === null) return null;
  const sizesOf = (row: number, flip: boolean): ImageSizes => {
    const target = targetOf(row);
    const original = sizes[row] ?? target;
    const { width, crop } = trainResizing(original, target);
    // The crop is taken first and mirrored then, so its left side is counted in the mirrored image.
    const left = flip ? width - crop.left - target.width : crop.left;
    return { original, crop: { top: crop.top, left }, target };
  };
  return ({ rows, flips }) =>
    sizeConditioning(
      rows.map((row, i) => sizesOf(row, flips[i] as boolean)),
      device,
    );
}
