/**
 * @file The UNet of SD 1.x, SD 2.x and SDXL, which predicts the noise or the velocity (Rombach et al., arXiv 2112.10752; diffusers
 * `src/diffusers/models/unet_2d_condition.py`).
 */
import { silu } from '../../nn/functional.js';
import { Conv2d, GroupNorm } from '../../nn/layers.js';
import { chain, Module } from '../../nn/module.js';
import { cat, type Tensor } from '../../torch/index.js';
import type { Attention } from '../layers/attention.js';
import type { AttentionSite, SiteAddition } from '../layers/attention-site.js';
import { sinusoidalEmbedding, TimestepEmbedding } from '../layers/embeddings.js';
import { normSiluConv } from '../layers/resnet.js';
import type { TransformerConfig } from '../layers/transformer-2d.js';
import { type BlockContext, DownBlock2D, UNetMidBlock2DCrossAttn, UpBlock2D } from './unet-blocks.js';
import type { UNet2DConditionConfig } from './unet-config.js';

/** The added conditioning of SDXL (Podell et al., arXiv 2307.01952, section 2.2). */
export interface AddedCondition {
  /** The projected embedding of the second text encoder [batch, textDim]. */
  textEmbeds: Tensor;
  /** [batch, 6]: original height and width, crop top and left, target height and width, in pixels */
  timeIds: Tensor;
}

/** An attention layer and its name, such as 'mid_block.attentions.0.transformer_blocks.0.attn2'. */
export interface NamedAttention {
  name: string;
  attention: Attention;
}

/**
 * sample [batch, inChannels, h, w], timesteps [batch] or [1] or [] (0 … 999), encoderHiddenStates
 * [batch, m, crossAttentionDim] → [batch, outChannels, h, w], in the dtype of the parameters. h and w need not be
 * multiples of 8. Adapters add to the cross-attention.
 */
export class UNet2DConditionModel extends Module<
  [
    sample: Tensor,
    timesteps: Tensor,
    encoderHiddenStates: Tensor,
    addedCond?: AddedCondition,
    additions?: readonly SiteAddition[],
  ]
> {
  readonly conv_in: Conv2d;
  readonly time_embedding: TimestepEmbedding;
  readonly add_embedding: TimestepEmbedding | null;
  readonly down_blocks: readonly DownBlock2D[];
  readonly up_blocks: readonly UpBlock2D[];
  readonly mid_block: UNetMidBlock2DCrossAttn;
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;
  readonly config: UNet2DConditionConfig;

  constructor(config: UNet2DConditionConfig) {
    super();
    const { convInKernel, convOutKernel, groups, eps, textTime, timeEmbedDim } = config;
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
    this.up_blocks = config.upHasAttention.map((hasAttention, i) => {
      const level = last - i;
      return new UpBlock2D({
        inChannels: channels(Math.max(level - 1, 0)),
        outChannels: channels(level),
        previousChannels: channels(Math.min(level + 1, last)),
        // One layer more than in a down block: the state before the first layer is a skip connection, too.
        layers: (config.layersPerBlock[level] as number) + 1,
        transformer: hasAttention ? transformerAt(config, level) : null,
        upsample: level > 0,
        ...norm,
      });
    });
    // Upstream's middle block has self-attention even with only_cross_attention.
    this.mid_block = new UNetMidBlock2DCrossAttn(channels(last), norm, {
      ...transformerAt(config, last),
      onlyCrossAttention: false,
    });
    this.conv_norm_out = new GroupNorm(groups, channels(0), eps);
    this.conv_out = new Conv2d(channels(0), config.outChannels, convOutKernel, {
      padding: Math.floor((convOutKernel - 1) / 2),
    });
    this.config = config;
    for (const [keyIndex, { name, attention }] of this.attentionLayers().entries())
      if (name.endsWith('.attn2')) attention.site = siteOf(name, keyIndex, attention);
  }

  /** Returns the attention layers that adapters add to, in the order of `attentionLayers`. */
  sites(): AttentionSite[] {
    return this.attentionLayers().flatMap(({ attention: { site } }) => site ?? []);
  }

  /**
   * Returns every attention layer, self-attention (attn1) and cross-attention (attn2), in the order of diffusers'
   * `attn_processors`: down, up, then mid. Published adapters number their modules by it.
   */
  attentionLayers(): NamedAttention[] {
    const layers: NamedAttention[] = [];
    const visit = (name: string, block: DownBlock2D | UpBlock2D | UNetMidBlock2DCrossAttn) => {
      for (const [i, transformer] of block.attentions.entries())
        for (const [j, { attn1, attn2 }] of transformer.transformer_blocks.entries()) {
          const path = `${name}.attentions.${i}.transformer_blocks.${j}`;
          layers.push(
            { name: `${path}.attn1`, attention: attn1 },
            { name: `${path}.attn2`, attention: attn2 },
          );
        }
    };
    for (const [i, block] of this.down_blocks.entries()) visit(`down_blocks.${i}`, block);
    for (const [i, block] of this.up_blocks.entries()) visit(`up_blocks.${i}`, block);
    visit('mid_block', this.mid_block);
    return layers;
  }

  protected forward(
    sample: Tensor,
    timesteps: Tensor,
    encoderHiddenStates: Tensor,
    addedCond?: AddedCondition,
    additions: readonly SiteAddition[] = [],
  ): Tensor {
    const { dtype } = this.conv_in.weight;
    const context: BlockContext = {
      time: silu(this.#embedTime(timesteps, sample.shape[0] ?? 0, addedCond)),
      text: encoderHiddenStates.to(dtype),
      additions,
    };

    let hidden = this.conv_in.call(sample.to(dtype));
    const skips = [hidden];
    for (const block of this.down_blocks) {
      const states = block.call(hidden, context);
      skips.push(...states);
      hidden = states.at(-1) as Tensor;
    }
    hidden = this.mid_block.call(hidden, context);
    for (const block of this.up_blocks) {
      const joining = skips.splice(-block.resnets.length);
      // If halving rounded the size, doubling does not restore it: use the size of the next skip connection.
      const [, , height, width] = skips.at(-1)?.shape ?? [];
      const size = height === undefined || width === undefined ? undefined : ([height, width] as const);
      hidden = block.call(hidden, joining, context, size);
    }
    return chain(hidden, normSiluConv(this.conv_norm_out, this.conv_out));
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
        "Expected addedCond with textEmbeds and timeIds for a UNet whose addition_embed_type is 'text_time'",
      );
    const { textEmbeds, timeIds } = addedCond;
    const sizes = sinusoidalEmbedding(timeIds.flatten(), config.textTime.timeDim, config).reshape(batch, -1);
    return time.add(add_embedding.call(cat([textEmbeds.to(dtype), sizes.to(dtype)], 1)));
  }
}

function transformerAt(config: UNet2DConditionConfig, level: number): TransformerConfig {
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

/** Reads the weights on each access, because loading replaces them. */
function siteOf(name: string, keyIndex: number, attention: Attention): AttentionSite {
  return {
    name,
    keyIndex,
    get to_k() {
      return attention.to_k.weight;
    },
    get to_v() {
      return attention.to_v.weight;
    },
  };
}
