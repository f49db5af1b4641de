/**
 * @file The half of a UNet that leads to its middle, which a ControlNet has as well: its time embedding, first convolution,
 * down blocks and middle block (diffusers `src/diffusers/models/unets/unet_2d_condition.py`).
 */
import { silu } from '../../nn/functional.js';
import { Conv2d } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { cat, type Tensor } from '../../torch/index.js';
import type { SiteAddition } from '../layers/attention-site.js';
import { sinusoidalEmbedding, TimestepEmbedding } from '../layers/embeddings.js';
import type { TransformerConfig } from '../layers/transformer-2d.js';
import { type BlockContext, DownBlock2D, UNetMidBlock2DCrossAttn } from './unet-blocks.js';
import type { UNet2DConditionConfig } from './unet-config.js';

/** The added conditioning of SDXL (Podell et al., arXiv 2307.01952, section 2.2). */
export interface AddedCondition {
  /** The projected embedding of the second text encoder [batch, textDim]. */
  textEmbeds: Tensor;
  /** [batch, 6]: original height and width, crop top and left, target height and width, in pixels */
  timeIds: Tensor;
}

/** The states that the half leads to. */
export interface EncoderStates {
  /** The skip connections: the input of the first block, then every state of the down blocks. */
  skips: Tensor[];
  /** The output of the middle block. */
  mid: Tensor;
}

/** What a ControlNet adds to these states, one for each; a size of 1 stands for every pixel. */
export interface Residuals {
  down: readonly Tensor[];
  mid: Tensor;
}

export abstract class UNetEncoder<Args extends unknown[], Out> extends Module<Args, Out> {
  readonly conv_in: Conv2d;
  readonly time_embedding: TimestepEmbedding;
  readonly add_embedding: TimestepEmbedding | null;
  readonly down_blocks: readonly DownBlock2D[];
  readonly mid_block: UNetMidBlock2DCrossAttn;

  constructor(readonly config: UNet2DConditionConfig) {
    super();
    const { convInKernel, groups, eps, textTime, timeEmbedDim, midHasAttention } = config;
    const channels = (level: number) => config.blockOutChannels[level] as number;
    const last = config.blockOutChannels.length - 1;
    const norm = { timeDim: timeEmbedDim, groups, eps };

    this.conv_in = new Conv2d(config.inChannels, channels(0), convInKernel, {
      padding: Math.floor((convInKernel - 1) / 2),
    });
    this.time_embedding = new TimestepEmbedding(channels(0), timeEmbedDim);
    this.add_embedding = textTime === null ? null : new TimestepEmbedding(textTime.inDim, timeEmbedDim);
    this.down_blocks = config.blockOutChannels.map(
      (outChannels, level) =>
        new DownBlock2D({
          inChannels: channels(Math.max(level - 1, 0)),
          outChannels,
          layers: config.layersPerBlock[level] as number,
          transformer: config.downHasAttention[level] ? transformerAt(config, level) : null,
          downsamplePadding: level === last ? null : config.downsamplePadding,
          ...norm,
        }),
    );
    // Upstream's middle block has self-attention even with only_cross_attention.
    const transformer = { ...transformerAt(config, last), onlyCrossAttention: false };
    this.mid_block = new UNetMidBlock2DCrossAttn(channels(last), norm, midHasAttention ? transformer : null);
  }

  /** Returns what every block is told. */
  protected contextOf(
    timesteps: Tensor,
    text: Tensor,
    addedCond: AddedCondition | undefined,
    additions: readonly SiteAddition[],
  ): BlockContext {
    const time = this.#embedTime(timesteps, text.shape[0] ?? 0, addedCond);
    return { time: silu(time), text: text.to(this.conv_in.weight.dtype), additions };
  }

  /** @param hidden the output of `conv_in` */
  protected encode(hidden: Tensor, context: BlockContext): EncoderStates {
    const skips = [hidden];
    for (const block of this.down_blocks) skips.push(...block.call(skips.at(-1) as Tensor, context));
    return { skips, mid: this.mid_block.call(skips.at(-1) as Tensor, context) };
  }

  /** Returns the time embedding [batch, timeEmbedDim]. */
  #embedTime(timesteps: Tensor, batch: number, addedCond: AddedCondition | undefined): Tensor {
    const { config, add_embedding } = this;
    const { dtype } = this.conv_in.weight;
    const sinusoid = sinusoidalEmbedding(
      timesteps.expand(batch),
      config.blockOutChannels[0] as number,
      config,
    );
    const time = this.time_embedding.call(sinusoid.to(dtype));
    if (config.textTime === null || add_embedding === null) return time;
    if (addedCond === undefined)
      throw new TypeError(
        `Expected addedCond with textEmbeds and timeIds for a ${this.constructor.name} whose addition_embed_type is 'text_time'`,
      );
    const { textEmbeds, timeIds } = addedCond;
    const sizes = sinusoidalEmbedding(timeIds.flatten(), config.textTime.timeDim, config).reshape(batch, -1);
    return time.add(add_embedding.call(cat([textEmbeds.to(dtype), sizes.to(dtype)], 1)));
  }
}

/** Returns the settings of the transformers at a level, the highest resolution first. */
export function transformerAt(config: UNet2DConditionConfig, level: number): TransformerConfig {
  return {
    heads: config.heads[level] as number,
    layers: config.transformerLayersPerBlock[level] as number,
    crossAttentionDim: config.crossAttentionDim[level] as number,
    groups: config.groups,
    useLinearProjection: config.useLinearProjection,
    onlyCrossAttention: config.onlyCrossAttention[level] as boolean,
    upcastAttention: config.upcastAttention,
  };
}
