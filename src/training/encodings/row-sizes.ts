/** @file The conditioning of a batch by the sizes of its rows, for a family that has one. */

import type { Size } from '../../base/rgb-image.js';
import type { Examples } from '../../data/data-loader.js';
import type { ImageSizes } from '../../diffusion/conditioning.js';
import type { DiffusionModel, SizeConditioning } from '../../diffusion/model.js';
import { trainResizing } from '../../images/train-transform.js';
import type { Device } from '../../torch/index.js';

/**
 * @param sizes of the rows' images; null where one cannot be read, and so is not in a batch
 * @param targetOf the size of a row's training image
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
    // Of the mirrored image, as the crop is taken before it is mirrored.
    const left = flip ? width - crop.left - target.width : crop.left;
    return { original, crop: { top: crop.top, left }, target };
  };
  return ({ rows, flips }) =>
    sizeConditioning(
      rows.map((row, i) => sizesOf(row, flips[i] as boolean)),
      device,
    );
}
