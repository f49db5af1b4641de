/**
 * @file Multi-head attention as Stable Diffusion's UNet and VAE have it, with a pluggable middle (diffusers
 * `src/diffusers/models/attention_processor.py`).
 */
import { attention } from '../../nn/functional.js';
import { GroupNorm, Linear } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';

/**
 * What happens between an attention layer's input and its output projection. An adapter puts its own in place of
 * the default one by assigning `attention.processor`. A Module with these arguments is one.
 */
export interface AttentionProcessor {
  /**
   * @param hiddenStates [batch, n, channels], what the queries come from
   * @param encoderHiddenStates [batch, m, crossAttentionDim], what keys and values come from; undefined in
   * self-attention, which takes hiddenStates
   * @returns [batch, n, heads * dimHead]; the layer itself then applies `to_out`, and its residual where it has one
   */
  call(attention: Attention, hiddenStates: Tensor, encoderHiddenStates: Tensor | undefined): Tensor;
}

/** Plain attention. */
export const defaultProcessor: AttentionProcessor = {
  call(layer, hiddenStates, encoderHiddenStates = hiddenStates) {
    const query = layer.to_q.call(hiddenStates);
    return layer.attend(query, layer.to_k.call(encoderHiddenStates), layer.to_v.call(encoderHiddenStates));
  },
};

export interface AttentionConfig {
  /** Channels of the input and the output. */
  queryDim: number;
  /** Channels of what is attended to; default queryDim. */
  crossAttentionDim?: number;
  heads: number;
  dimHead: number;
  /** Whether to_q, to_k and to_v have a bias; default no. to_out has one. */
  bias?: boolean;
  /** Scores in float32 whatever the dtype; see `attention` in nn/functional.ts. */
  upcast?: boolean;
  /** The VAE's: normalise the input first, and add the input to the output. */
  norm?: { groups: number; eps: number };
}

/** hiddenStates [batch, n, channels] or [batch, channels, height, width] → the same shape */
export class Attention extends Module<[hiddenStates: Tensor, encoderHiddenStates?: Tensor]> {
  readonly group_norm: GroupNorm | null;
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  /** Upstream has dropout as the second. */
  readonly to_out: readonly [Linear];
  readonly heads: number;
  readonly #upcast: boolean;
  // Private, so that the parameters of a processor are never among the layer's own.
  #processor = defaultProcessor;

  constructor({
    queryDim,
    crossAttentionDim = queryDim,
    heads,
    dimHead,
    bias = false,
    upcast = false,
    norm,
  }: AttentionConfig) {
    super();
    const inner = heads * dimHead;
    this.group_norm = norm === undefined ? null : new GroupNorm(norm.groups, queryDim, norm.eps);
    this.to_q = new Linear(queryDim, inner, { bias });
    this.to_k = new Linear(crossAttentionDim, inner, { bias });
    this.to_v = new Linear(crossAttentionDim, inner, { bias });
    this.to_out = [new Linear(inner, queryDim)];
    this.heads = heads;
    this.#upcast = upcast;
  }

  get processor(): AttentionProcessor {
    return this.#processor;
  }

  set processor(processor: AttentionProcessor) {
    this.#processor = processor;
  }

  /** [batch, n, heads * dimHead] → [batch, heads, n, dimHead], a view */
  splitHeads(x: Tensor): Tensor {
    const [batch = 0, n = 0, inner = 0] = x.shape;
    return x.view(batch, n, this.heads, inner / this.heads).transpose(1, 2);
  }

  /** [batch, heads, n, dimHead] → [batch, n, heads * dimHead] */
  mergeHeads(x: Tensor): Tensor {
    return x.transpose(1, 2).flatten(2);
  }

  /** softmax(q kᵀ / √dimHead) v in each head, of projected q [batch, n, inner], k and v [batch, m, inner] → [batch, n, inner] */
  attend(query: Tensor, key: Tensor, value: Tensor): Tensor {
    const heads = attention(this.splitHeads(query), this.splitHeads(key), this.splitHeads(value), {
      upcast: this.#upcast,
    });
    return this.mergeHeads(heads);
  }

  protected forward(hiddenStates: Tensor, encoderHiddenStates?: Tensor): Tensor {
    const isImage = hiddenStates.ndim === 4;
    const normed = this.group_norm === null ? hiddenStates : this.group_norm.call(hiddenStates);
    const sequence = isImage ? normed.flatten(2).transpose(1, 2) : normed;
    const out = this.to_out[0].call(this.#processor.call(this, sequence, encoderHiddenStates));
    const shaped = isImage ? out.transpose(1, 2).reshape(...hiddenStates.shape) : out;
    return this.group_norm === null ? shaped : shaped.add(hiddenStates);
  }
}
