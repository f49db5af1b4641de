/** @file What a backbone is told beside the noisy latents: the text, and what families add to it. */
import type { Tensor } from '../torch/index.js';

/** A record of tensors (torch/tensor-tree.ts) with a row for each image. */
export interface Conditioning {
  /** The text encoder's states [batch, tokens, contextDim]. */
  text: Tensor;
}
