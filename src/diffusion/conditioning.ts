/** @file The conditioning of a backbone: the text, and what some families add to it. */
import type { Size } from '../base/rgb-image.js';
import type { Tensor } from '../torch/index.js';

/** A record of tensors (see torch/tensor-tree.ts) with one row for each image. */
export interface Conditioning {
  /** The hidden states of the text encoders [batch, tokens, contextDim]. */
  text: Tensor;
  /** SDXL: the second text encoder's embedding [batch, width]. */
  pooled?: Tensor;
  /**
   * SDXL: height and width of the original image, top and left of the crop in the resized image, height and width of the
   * target, in pixels [batch, 6]. Always float32: bfloat16 cannot tell 1365 from 1368.
   */
  timeIds?: Tensor;
  /**
   * A model for inpainting: what its UNet takes after the noisy latents, the mask and the latents of the image without its
   * masked part [batch, 1 + channels, h, w]. float32: the UNet converts it.
   */
  concat?: Tensor;
}

/** The sizes of an image from which `timeIds` are made. */
export interface ImageSizes {
  original: Size;
  /** The position of the crop in the resized image, in pixels. */
  crop: { top: number; left: number };
  target: Size;
}
