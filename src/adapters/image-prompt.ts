/** @file Image prompts: what one adapter adds to a batch of images, and how strongly. */
import type { Tensor } from '../torch/index.js';
import type { IPAdapter } from './ip-adapter.js';

export interface ImagePrompt {
  adapter: IPAdapter;
  /**
   * Image tokens of the reference images, [batch, numTokens, contextDim], in the dtype of the text states.
   */
  tokens: Tensor;
  /** Image tokens of the null image, for the negative side of guidance: same shape and dtype. */
  negativeTokens: Tensor;
  /** The strength of the image prompt beside the text: 0 none, 1 as in training. */
  scale: number;
  /** The fractions of the steps, 0 … 1, between which the prompt acts. */
  range: readonly [start: number, end: number];
}
