/** @file The UNet's down, middle and up blocks (diffusers `src/diffusers/models/unet_2d_blocks.py`). */
import { Module } from '../../nn/module.js';
import { cat, checkpoint, type Tensor } from '../../torch/index.js';
import type { SiteAddition } from '../layers/attention-site.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from '../layers/resnet.js';
import { Transformer2DModel, type TransformerConfig } from '../layers/transformer-2d.js';

/** The inputs that every layer of a UNet has besides the hidden states. */
export interface BlockContext {
  /** silu(time embedding) [batch, timeDim] */
  time: Tensor;
  /** [batch, m, crossAttentionDim] */
  text: Tensor;
  additions: readonly SiteAddition[];
}

interface BlockConfig {
  inChannels: number;
  outChannels: number;
  /** The number of ResNet blocks. */
  layers: number;
  timeDim: number;
  groups: number;
  eps: number;
  /** Null for the blocks without attention. */
  transformer: TransformerConfig | null;
}

export interface DownBlockConfig extends BlockConfig {
  /** Null for the last block, which keeps the size. */
  downsamplePadding: number | null;
}

/**
 * Upstream's DownBlock2D and, with a transformer after each ResNet block, CrossAttnDownBlock2D.
 * x [batch, inChannels, h, w] → the skip connections of the up blocks: [batch, outChannels, h, w] after each layer and,
 * unless it is the last block, [batch, outChannels, h/2, w/2]. The last one is the input of the next block.
 */
export class DownBlock2D extends Module<[x: Tensor, context: BlockContext], Tensor[]> {
  readonly attentions: readonly Transformer2DModel[];
  readonly resnets: readonly ResnetBlock2D[];
  readonly downsamplers: readonly Downsample2D[];

  constructor({ inChannels, outChannels, layers, transformer, downsamplePadding, ...norm }: DownBlockConfig) {
    super();
    this.attentions = transformers(layers, outChannels, transformer);
    this.resnets = Array.from(
      { length: layers },
      (_, i) => new ResnetBlock2D({ inChannels: i === 0 ? inChannels : outChannels, outChannels, ...norm }),
    );
    this.downsamplers = downsamplePadding === null ? [] : [new Downsample2D(outChannels, downsamplePadding)];
  }

  protected forward(x: Tensor, context: BlockContext): Tensor[] {
    const states: Tensor[] = [];
    let hidden = x;
    for (const [i, resnet] of this.resnets.entries()) {
      hidden = layer(resnet, this.attentions[i], context, [hidden]);
      states.push(hidden);
    }
    for (const downsampler of this.downsamplers) states.push(downsampler.call(hidden));
    return states;
  }
}

/**
 * ResNet block, transformer, ResNet block at the lowest resolution: [batch, channels, h, w] → the same shape. Without a
 * transformer it is upstream's UNetMidBlock2D of the small ControlNets, which is one ResNet block.
 */
export class UNetMidBlock2DCrossAttn extends Module<[x: Tensor, context: BlockContext]> {
  readonly attentions: readonly Transformer2DModel[];
  readonly resnets: readonly ResnetBlock2D[];

  constructor(
    channels: number,
    norm: { timeDim: number; groups: number; eps: number },
    transformer: TransformerConfig | null,
  ) {
    super();
    this.attentions = transformers(1, channels, transformer);
    this.resnets = Array.from(
      { length: this.attentions.length + 1 },
      () => new ResnetBlock2D({ inChannels: channels, outChannels: channels, ...norm }),
    );
  }

  protected forward(x: Tensor, context: BlockContext): Tensor {
    return this.resnets.reduce(
      (hidden, resnet, i) => layer(resnet, this.attentions[i], context, [hidden]),
      x,
    );
  }
}

export interface UpBlockConfig extends BlockConfig {
  /** Output channels of the previous block. `inChannels` are the channels of the last skip connection. */
  previousChannels: number;
  /** False for the last block, which keeps the size. */
  upsample: boolean;
}

/**
 * Upstream's UpBlock2D and, with a transformer after each ResNet block, CrossAttnUpBlock2D.
 * x [batch, previousChannels, h, w], concatenated before each layer with a skip connection (`skips`, last first) →
 * [batch, outChannels, 2h, 2w], or `size`; the last block keeps h and w.
 */
export class UpBlock2D extends Module<
  [x: Tensor, skips: readonly Tensor[], context: BlockContext, size?: readonly [number, number]]
> {
  readonly attentions: readonly Transformer2DModel[];
  readonly resnets: readonly ResnetBlock2D[];
  readonly upsamplers: readonly Upsample2D[];

  constructor({
    inChannels,
    outChannels,
    previousChannels,
    layers,
    transformer,
    upsample,
    ...norm
  }: UpBlockConfig) {
    super();
    this.attentions = transformers(layers, outChannels, transformer);
    this.resnets = Array.from({ length: layers }, (_, i) => {
      const hiddenChannels = i === 0 ? previousChannels : outChannels;
      const skipChannels = i === layers - 1 ? inChannels : outChannels;
      return new ResnetBlock2D({ inChannels: hiddenChannels + skipChannels, outChannels, ...norm });
    });
    this.upsamplers = upsample ? [new Upsample2D(outChannels)] : [];
  }

  protected forward(
    x: Tensor,
    skips: readonly Tensor[],
    context: BlockContext,
    size?: readonly [number, number],
  ): Tensor {
    let hidden = x;
    for (const [i, resnet] of this.resnets.entries()) {
      const skip = skips.at(-1 - i) as Tensor;
      hidden = layer(resnet, this.attentions[i], context, [hidden, skip]);
    }
    for (const upsampler of this.upsamplers) hidden = upsampler.call(hidden, size);
    return hidden;
  }
}

function transformers(
  count: number,
  channels: number,
  config: TransformerConfig | null,
): Transformer2DModel[] {
  return config === null ? [] : Array.from({ length: count }, () => new Transformer2DModel(channels, config));
}

/**
 * Runs a ResNet block, and a transformer after it if there is one, on states that are concatenated along their channels.
 * With gradient checkpointing it is one segment.
 */
function layer(
  resnet: ResnetBlock2D,
  attention: Transformer2DModel | undefined,
  context: BlockContext,
  states: readonly [Tensor, ...Tensor[]],
): Tensor {
  const segment = ({ context: { time, text, additions }, states }: SegmentInputs): Tensor => {
    const hidden = resnet.call(states.length === 1 ? states[0] : cat(states, 1), time);
    return attention?.call(hidden, text, additions) ?? hidden;
  };
  return checkpoint(segment, { context, states });
}

interface SegmentInputs {
  context: BlockContext;
  states: readonly [Tensor, ...Tensor[]];
}
