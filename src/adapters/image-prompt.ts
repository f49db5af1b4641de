/** @file An image prompt: what one adapter is to bring into a batch of images, and how much. */
import type { Tensor } from '../torch/index.js';
import type { IPAdapter } from './ip-adapter.js';

export interface ImagePrompt {
  adapter: IPAdapter;
  /**
   * Image tokens of the references and of the null image, from which guidance leads away, [batch, numTokens, contextDim]
   * both, in the dtype of the text's states.
   */
  tokens: Tensor;
  negativeTokens: Tensor;
  /** How strongly the images count beside the text: 0 not at all, 1 as in training. */
  scale: number;
  /** It acts in the steps that lie between these fractions of all, 0 … 1. */
  range: readonly [start: number, end: number];
}
