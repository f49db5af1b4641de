/**
 * @file The image projections of the adapters without a Resampler (tencent-ailab/IP-Adapter ip_adapter/ip_adapter.py).
 * Fields are named as the keys of the official files.
 */
import { gelu } from '../nn/functional.js';
import { LayerNorm, Linear } from '../nn/layers.js';
import { Module, Sequential } from '../nn/module.js';
import type { Tensor } from '../torch/index.js';

export interface ImageProjConfig {
  /** Width of the tokens: the UNet's cross_attention_dim. */
  crossAttentionDim: number;
  /** Width of the image encoder's output: projection_dim for the base adapter, hidden_size for the full one. */
  embeddingDim: number;
}

/** The base adapter's: one image embedding [batch, embeddingDim] → numTokens tokens [batch, numTokens, crossAttentionDim] */
export class ImageProjModel extends Module<[imageEmbeds: Tensor]> {
  proj: Linear;
  norm: LayerNorm;
  readonly #numTokens: number;
  readonly #crossAttentionDim: number;

  constructor({ crossAttentionDim, embeddingDim }: ImageProjConfig, numTokens: number) {
    super();
    this.proj = new Linear(embeddingDim, numTokens * crossAttentionDim);
    this.norm = new LayerNorm(crossAttentionDim);
    this.#numTokens = numTokens;
    this.#crossAttentionDim = crossAttentionDim;
  }

  protected override forward(imageEmbeds: Tensor): Tensor {
    return this.norm.call(this.proj.call(imageEmbeds).reshape(-1, this.#numTokens, this.#crossAttentionDim));
  }
}

/** The full adapter's: every hidden state [batch, n, embeddingDim] → a token each [batch, n, crossAttentionDim] */
export class MLPProjModel extends Module<[imageFeatures: Tensor]> {
  proj: Sequential;

  constructor({ crossAttentionDim, embeddingDim }: ImageProjConfig) {
    super();
    this.proj = new Sequential(
      new Linear(embeddingDim, embeddingDim),
      gelu,
      new Linear(embeddingDim, crossAttentionDim),
      new LayerNorm(crossAttentionDim),
    );
  }

  protected override forward(imageFeatures: Tensor): Tensor {
    return this.proj.call(imageFeatures);
  }
}
