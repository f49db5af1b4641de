/**
 * @file The multi-head attention of Stable Diffusion's UNet and VAE, to which adapters may add (diffusers
 * `src/diffusers/models/attention_processor.py`).
 */
import { multiHeadAttention } from '../../nn/functional.js';
import { GroupNorm, Linear } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Tensor, tidy } from '../../torch/index.js';
import type { AttentionSite, SiteAddition, SiteCall } from './attention-site.js';

export interface AttentionConfig {
  /** Channels of the input and the output. */
  queryDim: number;
  /** Channels of the context; default: queryDim. */
  crossAttentionDim?: number;
  heads: number;
  dimHead: number;
  /** Whether to_q, to_k and to_v have a bias; default: false. to_out always has one. */
  bias?: boolean;
  /** Whether the scores are computed in float32 in every dtype; see `attention` in nn/functional.ts. */
  upcast?: boolean;
  /** For the VAE: normalises the input first, and adds the input to the output. */
  norm?: { groups: number; eps: number };
}

/** What adapters add in one call of a backbone. */
export interface SiteStep {
  additions: readonly SiteAddition[];
  /** See `SiteCall`. */
  grid: SiteCall['grid'];
}

/**
 * Attends from hiddenStates, [batch, n, channels] or [batch, channels, height, width], to encoderHiddenStates
 * [batch, m, crossAttentionDim], or to hiddenStates itself. Returns the shape of hiddenStates.
 */
export class Attention extends Module<[hiddenStates: Tensor, encoderHiddenStates?: Tensor, step?: SiteStep]> {
  readonly group_norm: GroupNorm | null;
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  /** A list, since upstream has a second element, dropout. */
  readonly to_out: readonly [Linear];
  readonly heads: number;
  readonly #upcast: boolean;
  #site: AttentionSite | null = null;

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

  /** The site of the layer in its backbone; null for a layer to which no adapter adds. */
  get site(): AttentionSite | null {
    return this.#site;
  }

  set site(site: AttentionSite | null) {
    this.#site = site;
  }

  /** Returns softmax(q kᵀ / √dimHead) v of each head: q [batch, n, inner], k and v [batch, m, inner] → [batch, n, inner]. */
  attend(query: Tensor, key: Tensor, value: Tensor): Tensor {
    return multiHeadAttention(query, key, value, this.heads, { upcast: this.#upcast });
  }

  protected forward(hiddenStates: Tensor, encoderHiddenStates?: Tensor, step?: SiteStep): Tensor {
    const isImage = hiddenStates.ndim === 4;
    const normed = this.group_norm === null ? hiddenStates : this.group_norm.call(hiddenStates);
    const sequence = isImage ? normed.flatten(2).transpose(1, 2) : normed;
    const attended = tidy(() => this.#attendWithAdditions(sequence, encoderHiddenStates ?? sequence, step));
    const out = this.to_out[0].call(attended);
    const shaped = isImage ? out.transpose(1, 2).reshape(...hiddenStates.shape) : out;
    return this.group_norm === null ? shaped : shaped.add(hiddenStates);
  }

  #attendWithAdditions(sequence: Tensor, context: Tensor, step: SiteStep | undefined): Tensor {
    const query = this.to_q.call(sequence);
    const attended = this.attend(query, this.to_k.call(context), this.to_v.call(context));
    const site = this.#site;
    if (site === null || step === undefined) return attended;
    const { dtype } = query;
    const attend = (key: Tensor, value: Tensor): Tensor => this.attend(query, key.to(dtype), value.to(dtype));
    return step.additions.reduce((sum, addition) => {
      const added = addition.at({ site, grid: step.grid, attended, attend });
      return added === null ? sum : sum.add(added.hidden, added.weight);
    }, attended);
  }
}
