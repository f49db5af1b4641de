/** @file Draws the noise and the timesteps of a training step. */
import type { Objective, RandomSource } from '../diffusion/objective.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { randn, type Tensor, tidy } from '../torch/index.js';

type NoiseOptions = Pick<ResolvedTrainOptions, 'noiseOffset' | 'timestepSampling' | 'logitMean' | 'logitStd'>;

export interface Noise {
  /** [b, channels, h, w], as the latents; standard normal unless there is an offset. */
  noise: Tensor;
  /** int64 [b], 0 ≤ t < num_train_timesteps */
  timesteps: Tensor;
}

/**
 * Draws noise and timesteps for the rows of a batch.
 * @param shape the shape of the latents, [b, channels, h, w]
 */
export function drawNoise(
  shape: readonly number[],
  objective: Objective,
  options: NoiseOptions,
  source: RandomSource,
): Noise {
  return tidy(() => {
    const [rows = 0, channels = 0] = shape;
    const noise = randn(shape, source);
    // One number for a whole channel shifts the mean of the channel: diffusers
    // `examples/text_to_image/train_text_to_image.py`, after crosslabs.org "Diffusion with Offset Noise".
    if (options.noiseOffset !== 0) noise.add_(randn([rows, channels, 1, 1], source), options.noiseOffset);
    return { noise, timesteps: objective.sampleTimesteps(rows, options, source) };
  });
}
