/** @file Embeddings of numbers such as timesteps (diffusers `src/diffusers/models/embeddings.py`). */
import { silu } from '../../nn/functional.js';
import { Linear } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { arange, cat, type Tensor } from '../../torch/index.js';

export interface SinusoidConfig {
  /** Whether cosines come before sines, as in Stable Diffusion. */
  flipSinToCos: boolean;
  freqShift: number;
}

/**
 * Returns sines and cosines of the numbers at dim / 2 frequencies from 1 down to 1 / 10000 (Vaswani et al. 2017, section
 * 3.5). Always in float32, since half precision cannot tell neighbouring timesteps apart.
 * @param values [n], any dtype
 * @returns [n, dim] float32
 */
export function sinusoidalEmbedding(
  values: Tensor,
  dim: number,
  { flipSinToCos, freqShift }: SinusoidConfig,
): Tensor {
  const half = dim / 2;
  const frequencies = arange(0, half, 1, { device: values.device })
    .mul(-Math.log(10000))
    .div(half - freqShift)
    .exp();
  const angles = values.to('float32').unsqueeze(1).mul(frequencies);
  return cat(flipSinToCos ? [angles.cos(), angles.sin()] : [angles.sin(), angles.cos()], 1);
}

/** Two linear layers with SiLU between them: [batch, inDim] → [batch, outDim]. */
export class TimestepEmbedding extends Module {
  readonly linear_1: Linear;
  readonly linear_2: Linear;

  constructor(inDim: number, outDim: number) {
    super();
    this.linear_1 = new Linear(inDim, outDim);
    this.linear_2 = new Linear(outDim, outDim);
  }

  protected forward(x: Tensor): Tensor {
    return this.linear_2.call(silu(this.linear_1.call(x)));
  }
}
