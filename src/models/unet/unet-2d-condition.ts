/**
 * @file The UNet of SD 1.x, SD 2.x and SDXL, which predicts the noise or the velocity (Rombach et al., arXiv 2112.10752; diffusers
 * `src/diffusers/models/unet_2d_condition.py`).
 */
import { Conv2d, GroupNorm } from '../../nn/layers.js';
import { chain } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';
import type { Attention } from '../layers/attention.js';
import type { AttentionSite, SiteAddition } from '../layers/attention-site.js';
import { normSiluConv } from '../layers/resnet.js';
import { type DownBlock2D, type UNetMidBlock2DCrossAttn, UpBlock2D } from './unet-blocks.js';
import type { UNet2DConditionConfig } from './unet-config.js';
import { type AddedCondition, type Residuals, transformerAt, UNetEncoder } from './unet-encoder.js';

/** An attention layer and its name, such as 'mid_block.attentions.0.transformer_blocks.0.attn2'. */
export interface NamedAttention {
  name: string;
  attention: Attention;
}

/**
 * sample [batch, inChannels, h, w], timesteps [batch] or [1] or [] (0 … 999), encoderHiddenStates
 * [batch, m, crossAttentionDim] → [batch, outChannels, h, w], in the dtype of the parameters. h and w need not be
 * multiples of 8. Adapters add to the cross-attention, a ControlNet's residuals to the skip connections and the middle.
 */
export class UNet2DConditionModel extends UNetEncoder<
  [
    sample: Tensor,
    timesteps: Tensor,
    encoderHiddenStates: Tensor,
    addedCond?: AddedCondition,
    additions?: readonly SiteAddition[],
    residuals?: Residuals,
  ],
  Tensor
> {
  readonly up_blocks: readonly UpBlock2D[];
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;

  constructor(config: UNet2DConditionConfig) {
    super(config);
    const { convOutKernel, groups, eps, timeEmbedDim } = config;
    const channels = (level: number) => config.blockOutChannels[level] as number;
    const last = config.blockOutChannels.length - 1;
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
        ...{ timeDim: timeEmbedDim, groups, eps },
      });
    });
    this.conv_norm_out = new GroupNorm(groups, channels(0), eps);
    this.conv_out = new Conv2d(channels(0), config.outChannels, convOutKernel, {
      padding: Math.floor((convOutKernel - 1) / 2),
    });
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
    residuals?: Residuals,
  ): Tensor {
    const context = this.contextOf(timesteps, encoderHiddenStates, addedCond, additions);
    const states = this.encode(this.conv_in.call(sample.to(this.conv_in.weight.dtype)), context);
    const skips = states.skips.map((skip, i) => residuals?.down[i]?.add(skip) ?? skip);
    let hidden = residuals?.mid.add(states.mid) ?? states.mid;
    for (const block of this.up_blocks) {
      const joining = skips.splice(-block.resnets.length);
      // If halving rounded the size, doubling does not restore it: use the size of the next skip connection.
      const [, , height, width] = skips.at(-1)?.shape ?? [];
      const size = height === undefined || width === undefined ? undefined : ([height, width] as const);
      hidden = block.call(hidden, joining, context, size);
    }
    return chain(hidden, normSiluConv(this.conv_norm_out, this.conv_out));
  }
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
