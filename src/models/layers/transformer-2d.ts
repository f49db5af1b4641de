/**
 * @file The transformer inside the UNet's blocks (diffusers `src/diffusers/models/transformer_2d.py` and
 * `src/diffusers/models/attention.py`).
 */
import { geglu } from '../../nn/functional.js';
import { Conv2d, GroupNorm, LayerNorm, Linear } from '../../nn/layers.js';
import { Module, Sequential } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';
import { Attention, type SiteStep } from './attention.js';
import type { SiteAddition } from './attention-site.js';

export interface TransformerConfig {
  heads: number;
  /** The number of transformer blocks. */
  layers: number;
  crossAttentionDim: number;
  groups: number;
  /** Whether proj_in and proj_out are linear layers (SD2, SDXL) instead of 1×1 convolutions (SD1). */
  useLinearProjection: boolean;
  /** Whether the first attention reads the text, too. */
  onlyCrossAttention: boolean;
  upcastAttention: boolean;
}

/** a · gelu(b) of the two halves of a linear layer's output (Shazeer, arXiv 2002.05202): [..., dim] → [..., inner]. */
class GEGLU extends Module {
  readonly proj: Linear;

  constructor(dim: number, inner: number) {
    super();
    this.proj = new Linear(dim, inner * 2);
  }

  protected forward(x: Tensor): Tensor {
    return geglu(this.proj.call(x));
  }
}

/** The feed-forward block, four times as wide inside: [..., dim] → [..., dim]. */
class FeedForward extends Module {
  readonly net: Sequential;

  constructor(dim: number) {
    super();
    this.net = new Sequential(new GEGLU(dim, dim * 4), null, new Linear(dim * 4, dim));
  }

  protected forward(x: Tensor): Tensor {
    return this.net.call(x);
  }
}

/** Self-attention, cross-attention and feed-forward, each with a layer norm before and a residual sum: [batch, n, dim]. */
class BasicTransformerBlock extends Module<[hidden: Tensor, encoderHiddenStates: Tensor, step: SiteStep]> {
  readonly norm1: LayerNorm;
  readonly attn1: Attention;
  readonly norm2: LayerNorm;
  readonly attn2: Attention;
  readonly norm3: LayerNorm;
  readonly ff: FeedForward;
  readonly #onlyCrossAttention: boolean;

  constructor(
    dim: number,
    { heads, crossAttentionDim, onlyCrossAttention, upcastAttention }: TransformerConfig,
  ) {
    super();
    const shared = { queryDim: dim, heads, dimHead: Math.floor(dim / heads), upcast: upcastAttention };
    this.norm1 = new LayerNorm(dim);
    this.attn1 = new Attention(onlyCrossAttention ? { ...shared, crossAttentionDim } : shared);
    this.norm2 = new LayerNorm(dim);
    this.attn2 = new Attention({ ...shared, crossAttentionDim });
    this.norm3 = new LayerNorm(dim);
    this.ff = new FeedForward(dim);
    this.#onlyCrossAttention = onlyCrossAttention;
  }

  protected forward(hidden: Tensor, encoderHiddenStates: Tensor, step: SiteStep): Tensor {
    const first = this.#onlyCrossAttention ? encoderHiddenStates : undefined;
    let x = hidden.add(this.attn1.call(this.norm1.call(hidden), first));
    x = x.add(this.attn2.call(this.norm2.call(x), encoderHiddenStates, step));
    return x.add(this.ff.call(this.norm3.call(x)));
  }
}

/** Transformer blocks on the pixels as a sequence, with a residual sum: [batch, channels, h, w] → the same shape. */
export class Transformer2DModel extends Module<
  [x: Tensor, encoderHiddenStates: Tensor, additions: readonly SiteAddition[]]
> {
  readonly norm: GroupNorm;
  readonly proj_in: Conv2d | Linear;
  readonly transformer_blocks: readonly BasicTransformerBlock[];
  readonly proj_out: Conv2d | Linear;

  constructor(channels: number, config: TransformerConfig) {
    super();
    const projection = () =>
      config.useLinearProjection ? new Linear(channels, channels) : new Conv2d(channels, channels, 1);
    // Upstream's eps is 1e-6 here, independent of the UNet's norm_eps.
    this.norm = new GroupNorm(config.groups, channels, 1e-6);
    this.proj_in = projection();
    this.transformer_blocks = Array.from(
      { length: config.layers },
      () => new BasicTransformerBlock(channels, config),
    );
    this.proj_out = projection();
  }

  protected forward(x: Tensor, encoderHiddenStates: Tensor, additions: readonly SiteAddition[]): Tensor {
    // Contiguous, because every layer of the blocks reads it row by row.
    const toSequence = (image: Tensor) => image.flatten(2).transpose(1, 2).contiguous();
    const toImage = (sequence: Tensor) => sequence.transpose(1, 2).reshape(...x.shape);

    const [, , height = 0, width = 0] = x.shape;
    const step: SiteStep = { additions, grid: [height, width] };
    const normed = this.norm.call(x);
    const { proj_in, proj_out } = this;
    let hidden =
      proj_in instanceof Linear ? proj_in.call(toSequence(normed)) : toSequence(proj_in.call(normed));
    for (const block of this.transformer_blocks) hidden = block.call(hidden, encoderHiddenStates, step);
    const out = proj_out instanceof Linear ? toImage(proj_out.call(hidden)) : proj_out.call(toImage(hidden));
    return out.add(x);
  }
}
