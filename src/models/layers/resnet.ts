/** @file The convolutional blocks of the UNet and the VAE (diffusers `src/diffusers/models/resnet.py`). */
import { interpolateNearest, pad, silu } from '../../nn/functional.js';
import { Conv2d, GroupNorm, Linear } from '../../nn/layers.js';
import { chain, Module, type Step } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';

/** silu(x), in place where backward does not need x: at full size, each of these tensors takes tens of megabytes. */
const activate = (x: Tensor): Tensor => silu(x, { inplace: !x.requiresGrad });

/** Returns conv(silu(norm(x))) as the steps of a chain. */
export const normSiluConv = (norm: GroupNorm, conv: Conv2d): Step[] => [norm, activate, conv];

export interface ResnetConfig {
  inChannels: number;
  outChannels: number;
  /** Channels of the time embedding; null in the VAE, which has none. */
  timeDim: number | null;
  groups: number;
  eps: number;
}

/**
 * Two convolutions with a shortcut: x [batch, inChannels, h, w] → [batch, outChannels, h, w]. `time` is
 * silu(time embedding) [batch, timeDim]; the model computes the activation once for all blocks.
 */
export class ResnetBlock2D extends Module<[x: Tensor, time?: Tensor]> {
  readonly norm1: GroupNorm;
  readonly conv1: Conv2d;
  readonly time_emb_proj: Linear | null;
  readonly norm2: GroupNorm;
  readonly conv2: Conv2d;
  readonly conv_shortcut: Conv2d | null;

  constructor({ inChannels, outChannels, timeDim, groups, eps }: ResnetConfig) {
    super();
    this.norm1 = new GroupNorm(groups, inChannels, eps);
    this.conv1 = new Conv2d(inChannels, outChannels, 3, { padding: 1 });
    this.time_emb_proj = timeDim === null ? null : new Linear(timeDim, outChannels);
    this.norm2 = new GroupNorm(groups, outChannels, eps);
    this.conv2 = new Conv2d(outChannels, outChannels, 3, { padding: 1 });
    this.conv_shortcut = inChannels === outChannels ? null : new Conv2d(inChannels, outChannels, 1);
  }

  protected forward(x: Tensor, time?: Tensor): Tensor {
    const { norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut } = this;
    // In place is safe for autograd: the backward of a convolution does not need its output.
    const addTime = (hidden: Tensor): Tensor =>
      time_emb_proj === null || time === undefined
        ? hidden
        : hidden.add_(time_emb_proj.call(time).unsqueeze(-1).unsqueeze(-1));
    const hidden = chain(x, [...normSiluConv(norm1, conv1), addTime, ...normSiluConv(norm2, conv2)]);
    return hidden.add_(conv_shortcut === null ? x : conv_shortcut.call(x));
  }
}

/** Halves the size by a strided convolution: [batch, channels, h, w] → [batch, channels, ⌈h/2⌉, ⌈w/2⌉]. */
export class Downsample2D extends Module {
  readonly conv: Conv2d;

  /** @param padding 1; or 0 for the VAE, which pads right and bottom only, so that the size is ⌊h/2⌋, ⌊w/2⌋ */
  constructor(channels: number, padding: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { stride: 2, padding });
  }

  protected forward(x: Tensor): Tensor {
    return this.conv.call(this.conv.padding === 0 ? pad(x, [0, 1, 0, 1]) : x);
  }
}

/** Repeats each pixel, then convolves: [batch, channels, h, w] → [batch, channels, 2h, 2w], or `size` if set. */
export class Upsample2D extends Module<[x: Tensor, size?: readonly [number, number]]> {
  readonly conv: Conv2d;

  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { padding: 1 });
  }

  protected forward(x: Tensor, size?: readonly [number, number]): Tensor {
    return this.conv.call(interpolateNearest(x, size ?? 2));
  }
}
