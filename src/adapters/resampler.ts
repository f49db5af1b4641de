/**
 * @file The image projection of IP-Adapter Plus: a Perceiver resampler that turns the hidden states of the image encoder
 * into a fixed number of tokens (Alayrac et al., Flamingo, arXiv 2204.14198, section 3.1.1; tencent-ailab/IP-Adapter
 * ip_adapter/resampler.py). Fields are named as the keys of the official files.
 */
import { gelu, multiHeadAttention } from '../nn/functional.js';
import { initParameters } from '../nn/init.js';
import { LayerNorm, Linear } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import { cat, type Device, empty, type Generator, randn, type Tensor, tidy } from '../torch/index.js';
import type { ImageProjection } from './kind.js';

export interface ResamplerConfig {
  /** Width inside the resampler. */
  dim: number;
  depth: number;
  /** Width of one attention head. */
  dimHead: number;
  heads: number;
  /** The number of output tokens. */
  numQueries: number;
  /** Width of the image encoder's hidden states. */
  embeddingDim: number;
  /** Width of the tokens: the UNet's cross_attention_dim. */
  outputDim: number;
  /** The feed-forward's inner width, as a multiple of `dim`. */
  ffMult: number;
}

/** Turns image features [batch, n, embeddingDim] into image tokens [batch, numQueries, outputDim]. */
export class Resampler extends Module<[Tensor]> implements ImageProjection {
  latents: Tensor;
  proj_in: Linear;
  proj_out: Linear;
  norm_out: LayerNorm;
  layers: [PerceiverAttention, FeedForward][];

  readonly config: ResamplerConfig;

  constructor(config: ResamplerConfig) {
    super();
    const { dim, depth, numQueries, embeddingDim, outputDim } = config;
    this.config = config;
    this.latents = empty([1, numQueries, dim], { device: 'meta' });
    this.proj_in = new Linear(embeddingDim, dim);
    this.proj_out = new Linear(dim, outputDim);
    this.norm_out = new LayerNorm(outputDim);
    this.layers = Array.from({ length: depth }, () => [
      new PerceiverAttention(config),
      new FeedForward(config),
    ]);
  }

  get embeddingDim(): number {
    return this.config.embeddingDim;
  }

  get numTokens(): number {
    return this.config.numQueries;
  }

  get crossAttentionDim(): number {
    return this.config.outputDim;
  }

  /** Fills in random values, distributed as in the original: PyTorch's defaults, and latents ~ N(0, 1/dim). */
  init(generator: Generator, device: Device = 'cpu'): this {
    initParameters(this, generator, device);
    const { shape } = this.latents;
    this.latents.dispose();
    this.latents = tidy(() => randn(shape, { generator, device }).mul_(this.config.dim ** -0.5));
    return this;
  }

  protected override forward(features: Tensor): Tensor {
    const x = this.proj_in.call(features);
    let latents = this.latents.expand(x.shape[0] as number, -1, -1);
    for (const [attention, feedForward] of this.layers) {
      latents = attention.call(x, latents).add(latents);
      latents = feedForward.call(latents).add(latents);
    }
    return this.norm_out.call(this.proj_out.call(latents));
  }
}

/** Attention with queries from the latents, and keys and values from features and latents together. */
class PerceiverAttention extends Module<[Tensor, Tensor]> {
  norm1: LayerNorm;
  norm2: LayerNorm;
  to_q: Linear;
  to_kv: Linear;
  to_out: Linear;

  readonly #heads: number;

  constructor({ dim, dimHead, heads }: ResamplerConfig) {
    super();
    const inner = dimHead * heads;
    this.norm1 = new LayerNorm(dim);
    this.norm2 = new LayerNorm(dim);
    this.to_q = new Linear(dim, inner, { bias: false });
    this.to_kv = new Linear(dim, inner * 2, { bias: false });
    this.to_out = new Linear(inner, dim, { bias: false });
    this.#heads = heads;
  }

  protected override forward(features: Tensor, latents: Tensor): Tensor {
    const normed = this.norm2.call(latents);
    const kv = this.to_kv.call(cat([this.norm1.call(features), normed], 1));
    const [k, v] = kv.chunk(2, -1) as [Tensor, Tensor];
    // In half precision the scores may overflow, so the softmax runs in float32.
    const attended = multiHeadAttention(this.to_q.call(normed), k, v, this.#heads, { upcast: true });
    return this.to_out.call(attended);
  }
}

/** LayerNorm, Linear, GELU, Linear, with the keys 0, 1 and 3 of PyTorch's Sequential. */
class FeedForward extends Module<[Tensor]> {
  0: LayerNorm;
  1: Linear;
  3: Linear;

  constructor({ dim, ffMult }: ResamplerConfig) {
    super();
    this[0] = new LayerNorm(dim);
    this[1] = new Linear(dim, dim * ffMult, { bias: false });
    this[3] = new Linear(dim * ffMult, dim, { bias: false });
  }

  protected override forward(x: Tensor): Tensor {
    return this[3].call(gelu(this[1].call(this[0].call(x))));
  }
}
