/** @file CLIP's text encoder with its projection (transformers `src/transformers/models/clip/modeling_clip.py`). */
import { Linear } from '../../nn/layers.js';
import { type Tensor, tidy } from '../../torch/index.js';
import { type CLIPTextConfig, CLIPTextModel } from './clip-text-model.js';

/** Adds `embed`, which returns the text embeddings that are compared with image embeddings. */
export class CLIPTextModelWithProjection extends CLIPTextModel {
  readonly text_projection: Linear;

  /** @param projectionDim width of the embeddings, the same as the image encoder's */
  constructor(config: CLIPTextConfig, projectionDim: number) {
    super(config);
    this.text_projection = new Linear(config.hiddenSize, projectionDim, { bias: false });
  }

  /** inputIds [batch, n] int64 → text embeddings [batch, projectionDim] */
  embed(inputIds: Tensor): Tensor {
    return tidy(() => this.encode(inputIds).textEmbeds);
  }

  /** Returns the text embeddings [batch, projectionDim] beside `CLIPTextOutput.hiddenStates`. */
  encode(inputIds: Tensor): { textEmbeds: Tensor; hiddenStates: Tensor[] } {
    return tidy(() => {
      const { poolerOutput, hiddenStates } = this.call(inputIds);
      return { textEmbeds: this.text_projection.call(poolerOutput), hiddenStates };
    });
  }
}
