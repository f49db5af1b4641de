/** @file What is random about a training step, besides the VAE's sample: the noise, and how much of it. */
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { type Device, type Generator, randint, randn, type Tensor, tidy } from '../torch/index.js';

type NoiseOptions = Pick<ResolvedTrainOptions, 'noiseOffset' | 'timestepSampling' | 'logitMean' | 'logitStd'>;

interface Source {
  generator: Generator;
  device: Device;
}

export interface Noise {
  /** The latents' shape [b, channels, h, w]; standard normal where there is no offset. */
  noise: Tensor;
  /** int64 [b], 0 ≤ t < num_train_timesteps */
  timesteps: Tensor;
}

/** @param shape the latents' */
export function drawNoise(
  shape: readonly number[],
  numTrainTimesteps: number,
  options: NoiseOptions,
  source: Source,
): Noise {
  return tidy(() => {
    const [rows = 0, channels = 0] = shape;
    const noise = randn(shape, source);
    // What a channel has in common moves its mean;
    // diffusers `examples/text_to_image/train_text_to_image.py`, after crosslabs.org "Diffusion with Offset Noise".
    if (options.noiseOffset !== 0) noise.add_(randn([rows, channels, 1, 1], source), options.noiseOffset);
    return { noise, timesteps: drawTimesteps(rows, numTrainTimesteps, options, source) };
  });
}

/**
 * int64 [count], of 0 … numTrainTimesteps − 1. 'logit_normal' makes those in the middle more frequent: t = σ(u), u
 * normal with the given mean and deviation (Esser et al., arXiv 2403.03206, section 3.1; 0 is no noise), of which
 * the timestep is ⌊t · numTrainTimesteps⌋.
 */
function drawTimesteps(
  count: number,
  numTrainTimesteps: number,
  { timestepSampling, logitMean, logitStd }: NoiseOptions,
  source: Source,
): Tensor {
  if (timestepSampling === 'uniform') return randint(0, numTrainTimesteps, [count], source);
  const t = randn([count], source).mul(logitStd).add(logitMean).sigmoid();
  // float32 rounds the largest t to 1.
  return t
    .mul(numTrainTimesteps)
    .to('int64')
    .clamp(0, numTrainTimesteps - 1);
}
