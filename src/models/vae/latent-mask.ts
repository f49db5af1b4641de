/** @file Masks of images in the size of their latents. */
import { adaptiveAvgPool2d } from '../../nn/functional.js';
import type { Tensor } from '../../torch/index.js';

/**
 * Returns masks in the size of latents by area, as PyTorch's `interpolate(mode='area')`: a latent counts as much as the mean of
 * its pixels.
 * @param masks [b, 1, height, width]
 */
export function latentMasks(masks: Tensor, latents: Tensor): Tensor {
  const [height = 0, width = 0] = latents.shape.slice(-2);
  return adaptiveAvgPool2d(masks, [height, width]);
}
