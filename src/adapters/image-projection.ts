/**
 * @file The image projections of the adapters without a Resampler (tencent-ailab/IP-Adapter ip_adapter/ip_adapter.py).
 * Fields are named as the keys of the official files.
 */
import { gelu } from '../nn/functional.js';
import { initParameters } from '../nn/init.js';
import { LayerNorm, Linear } from '../nn/layers.js';
import { Module, Sequential } from '../nn/module.js';
import type { Generator, Tensor } from '../torch/index.js';

/** What makes image tokens [batch, numTokens, crossAttentionDim]; each variant of the adapter has its own. */
export interface ImageProjection extends Module<[imageFeatures: Tensor]> {
  /**
   * What of the image encoder goes in: the last hidden states but one [batch, n, embeddingDim], or the embedding
   * [batch, embeddingDim] that CLIP compares with texts.
   */
  readonly takes: 'hidden states' | 'embedding';
  readonly embeddingDim: number;
  readonly numTokens: number;
  /** Width of the tokens: the UNet's cross_attention_dim. */
  readonly crossAttentionDim: number;
  /** Random values, PyTorch's defaults. */
  init(generator: Generator): this;
}

/** The base adapter's: one image embedding [batch, embeddingDim] → [batch, numTokens, crossAttentionDim] */
export class ImageProjModel extends Module<[imageEmbeds: Tensor]> implements ImageProjection {
  proj: Linear;
  norm: LayerNorm;
  readonly takes = 'embedding';

  constructor(
    readonly embeddingDim: number,
    readonly numTokens: number,
    readonly crossAttentionDim: number,
  ) {
    super();
    this.proj = new Linear(embeddingDim, numTokens * crossAttentionDim);
    this.norm = new LayerNorm(crossAttentionDim);
  }

  init(generator: Generator): this {
    initParameters(this, generator);
    return this;
  }

  protected override forward(imageEmbeds: Tensor): Tensor {
    return this.norm.call(this.proj.call(imageEmbeds).reshape(-1, this.numTokens, this.crossAttentionDim));
  }
}

/** The full adapter's: every hidden state [batch, n, embeddingDim] → a token each [batch, n, crossAttentionDim] */
export class MLPProjModel extends Module<[imageFeatures: Tensor]> {
  proj: Sequential;

  constructor(embeddingDim: number, crossAttentionDim: number) {
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
