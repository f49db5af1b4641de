/**
 * @file ControlNet (Zhang et al., arXiv 2302.05543; diffusers `src/diffusers/models/controlnets/controlnet.py`): a copy of the UNet's
 * first half that also sees an image, and adds to the UNet's skip connections and middle block.
 */
import { silu } from '../../nn/functional.js';
import { Conv2d } from '../../nn/layers.js';
import { chain, Module } from '../../nn/module.js';
import { cat, type Tensor, tidy } from '../../torch/index.js';
import { type AddedCondition, type Residuals, UNetEncoder } from '../unet/unet-encoder.js';
import type { ControlNetConfig } from './controlnet-config.js';

/**
 * sample [batch, inChannels, h, w], timesteps and encoderHiddenStates as of the UNet, condition [batch or 1, channels, h, w] of
 * `embed` → residuals of the UNet, before any scale, in the dtype of the parameters.
 */
export class ControlNetModel extends UNetEncoder<
  [
    sample: Tensor,
    timesteps: Tensor,
    encoderHiddenStates: Tensor,
    condition: Tensor,
    addedCond?: AddedCondition | undefined,
  ],
  Residuals
> {
  readonly controlnet_cond_embedding: ControlNetConditioningEmbedding;
  readonly controlnet_down_blocks: readonly Conv2d[];
  readonly controlnet_mid_block: Conv2d;

  constructor(override readonly config: ControlNetConfig) {
    super(config);
    const { blockOutChannels, layersPerBlock, conditioningChannels } = config;
    const [first, last] = [blockOutChannels[0] as number, blockOutChannels.at(-1) as number];
    this.controlnet_cond_embedding = new ControlNetConditioningEmbedding(conditioningChannels, first);
    // One for each skip connection: the first convolution, every layer, and every downsampling.
    const skips = blockOutChannels.flatMap((channels, level) => {
      const layers = layersPerBlock[level] as number;
      return Array<number>(level === blockOutChannels.length - 1 ? layers : layers + 1).fill(channels);
    });
    this.controlnet_down_blocks = [first, ...skips].map((channels) => new Conv2d(channels, channels, 1));
    this.controlnet_mid_block = new Conv2d(last, last, 1);
  }

  /** Returns the conditioning image's embedding, which does not depend on the step. @param image [n, 3, H, W] in 0 … 1 */
  embed(image: Tensor): Tensor {
    return tidy(() => {
      const colours = image.to(this.conv_in.weight.dtype).chunk(3, 1);
      return this.controlnet_cond_embedding.call(cat(this.config.isBGR ? colours.reverse() : colours, 1));
    });
  }

  protected forward(
    sample: Tensor,
    timesteps: Tensor,
    encoderHiddenStates: Tensor,
    condition: Tensor,
    addedCond?: AddedCondition,
  ): Residuals {
    const context = this.contextOf(timesteps, encoderHiddenStates, addedCond, []);
    const first = this.conv_in.call(sample.to(this.conv_in.weight.dtype)).add(condition);
    const { skips, mid } = this.encode(first, context);
    const pool = (states: Tensor): Tensor => (this.config.globalPool ? states.mean([2, 3], true) : states);
    return {
      down: this.controlnet_down_blocks.map((conv, i) => pool(conv.call(skips[i] as Tensor))),
      mid: pool(this.controlnet_mid_block.call(mid)),
    };
  }
}

/** Image [n, 3, H, W] → [n, outChannels, h, w], at the latents' resolution */
class ControlNetConditioningEmbedding extends Module {
  readonly conv_in: Conv2d;
  readonly blocks: readonly Conv2d[];
  readonly conv_out: Conv2d;

  constructor(channels: readonly number[], outChannels: number) {
    super();
    this.conv_in = new Conv2d(3, channels[0] as number, 3, { padding: 1 });
    this.blocks = channels.slice(1).flatMap((next, i) => {
      const previous = channels[i] as number;
      return [
        new Conv2d(previous, previous, 3, { padding: 1 }),
        new Conv2d(previous, next, 3, { padding: 1, stride: 2 }),
      ];
    });
    this.conv_out = new Conv2d(channels.at(-1) as number, outChannels, 3, { padding: 1 });
  }

  protected forward(image: Tensor): Tensor {
    const activate = (x: Tensor): Tensor => silu(x, { inplace: true });
    return chain(image, [
      ...[this.conv_in, ...this.blocks].flatMap((conv) => [conv, activate]),
      this.conv_out,
    ]);
  }
}
