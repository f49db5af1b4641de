/**
 * @file Masks of image prompts: where in the image one acts. An attention site has a query for each position of its grid, so
 * a mask is resized to the grid and multiplied with what the prompt adds.
 */
import { interpolate, pad } from '../nn/functional.js';
import type { MaskFit } from '../options/reference-options.js';
import { type Tensor, tidy } from '../torch/index.js';

export interface RegionMask {
  /** [1, height, width], 0 … 1, float32: 1 where the prompt acts. It covers the whole image, whatever its own size is. */
  values: Tensor;
  /**
   * - site: bicubic to the height and width of the site's grid
   * - diffusers: bicubic to a size computed from the mask's own ratio, cut or filled with zeros at the end (diffusers
   *   image_processor.py, `IPAdapterMaskProcessor.downsample`)
   * - comfyui: bilinear to a size computed from the latents' ratio, cut or filled at both ends (ComfyUI_IPAdapter_plus
   *   CrossAttentionPatch.py)
   */
  fit: MaskFit;
  /** Height and width of the latents. */
  latents: readonly [height: number, width: number];
}

/** Returns the mask for the queries of a grid, [1, height × width, 1], float32. */
export function maskAt(
  { values, fit, latents }: RegionMask,
  [height, width]: readonly [number, number],
): Tensor {
  return tidy(() => {
    const count = height * width;
    const image = values.unsqueeze(0);
    const column = (mask: Tensor): Tensor => mask.reshape(1, -1, 1);
    if (fit === 'site') return column(interpolate(image, [height, width], 'bicubic'));
    if (fit === 'diffusers') {
      const [, maskHeight = 1, maskWidth = 1] = values.shape;
      const size = sizeOf(Math.trunc(Math.sqrt(count / (maskWidth / maskHeight))), count);
      const mask = column(interpolate(image, size, 'bicubic'));
      return fitted(mask, count, 0);
    }
    const [latentHeight, latentWidth] = latents;
    const size = sizeOf(Math.trunc(latentHeight / Math.sqrt((latentHeight * latentWidth) / count)), count);
    const mask = column(interpolate(image, size, 'bilinear'));
    const excess = size[0] * size[1] - count;
    return fitted(mask, count, Math.floor(Math.abs(excess) / 2));
  });
}

/** Both peers take one row more where the rows do not divide the count. */
function sizeOf(rows: number, count: number): [height: number, width: number] {
  const height = rows + (count % rows === 0 ? 0 : 1);
  return [height, Math.floor(count / height)];
}

/** Cuts [1, n, 1] to `count` from position `before` on, or fills it with zeros, `before` of them at the beginning. */
function fitted(mask: Tensor, count: number, before: number): Tensor {
  const [, length = 0] = mask.shape;
  if (length === count) return mask;
  if (length > count) return mask.slice(1, before, before + count);
  return pad(mask, [0, 0, before, count - length - before]);
}
