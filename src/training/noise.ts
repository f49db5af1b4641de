/** @file What is random about a training step, besides the VAE's sample: the noise, and how much of it. */
import type { Objective, RandomSource } from '../diffusion/objective.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { randn, type Tensor, tidy } from '../torch/index.js';

type NoiseOptions = Pick<ResolvedTrainOptions, 'noiseOffset' | 'timestepSampling' | 'logitMean' | 'logitStd'>;

export interface Noise {
  /** The latents' shape [b, channels, h, w]; standard normal where there is no offset. */
  noise: Tensor;
  /** int64 [b], 0 ≤ t < num_train_timesteps */
  timesteps: Tensor;
}

/** @param shape the latents' */
export function drawNoise(
  shape: readonly number[],
  objective: Objective,
  options: NoiseOptions,
  source: RandomSource,
): Noise {
  return tidy(() => {
    const [rows = 0, channels = 0] = shape;
    const noise = randn(shape, source);
    // What a channel has in common moves its mean;
    // diffusers `examples/text_to_image/train_text_to_image.py`, after crosslabs.org "Diffusion with Offset Noise".
    if (options.noiseOffset !== 0) noise.add_(randn([rows, channels, 1, 1], source), options.noiseOffset);
    return { noise, timesteps: objective.sampleTimesteps(rows, options, source) };
  });
}
