/** @file What a backbone is told beside the noisy latents: the text, and what families add to it. */
import type { Size } from '../base/rgb-image.js';
import type { Tensor } from '../torch/index.js';

/** A record of tensors (torch/tensor-tree.ts) with a row for each image. */
export interface Conditioning {
  /** The text encoders' states [batch, tokens, contextDim]. */
  text: Tensor;
  /** SDXL: the second text encoder's embedding [batch, width]. */
  pooled?: Tensor;
  /**
   * SDXL: the image's height and width, the crop's top and left in the resized image, the target's height and width, in
   * pixels [batch, 6], float32 whatever the backbone's dtype, which may not tell 1365 from 1368.
   */
  timeIds?: Tensor;
}

/** The sizes that an image of a family with `timeIds` is described by. */
export interface ImageSizes {
  original: Size;
  /** In the resized image. */
  crop: { top: number; left: number };
  target: Size;
}
