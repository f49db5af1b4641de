/** @file What a diffusion model is trained to predict, and from what. */
import type { DDPMScheduler } from '../schedulers/ddpm.js';
import { type Device, type Generator, randint, randn, type Tensor } from '../torch/index.js';

interface TimestepOptions {
  timestepSampling: 'uniform' | 'logit_normal';
  /** Mean and standard deviation of the normal variable of 'logit_normal'. */
  logitMean: number;
  logitStd: number;
}

export interface Objective extends Disposable {
  readonly numTrainTimesteps: number;
  /** Returns int64 [rows], 0 ≤ t < numTrainTimesteps. */
  sampleTimesteps(rows: number, options: TimestepOptions, source: RandomSource): Tensor;
  /** Returns the latents with so much noise as their timestep [batch] asks for. */
  noisy(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor;
  /** Returns what the backbone should predict for them. */
  target(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor;
  /** Returns the Min-SNR weight of each row's loss, [batch]. */
  minSnrWeights(timesteps: Tensor, gamma: number): Tensor;
}

export interface RandomSource {
  generator: Generator;
  device: Device;
}

/** Predicts the noise (`epsilon`) or the velocity (`v_prediction`) of DDPM, as the scheduler's config says. */
export function diffusionObjective(scheduler: DDPMScheduler): Objective {
  return {
    numTrainTimesteps: scheduler.numTrainTimesteps,
    sampleTimesteps: (rows, options, source) =>
      sampleTimesteps(rows, scheduler.numTrainTimesteps, options, source),
    noisy: (latents, noise, timesteps) => scheduler.addNoise(latents, noise, timesteps),
    target: (latents, noise, timesteps) => scheduler.target(latents, noise, timesteps),
    minSnrWeights: (timesteps, gamma) => minSnrWeights(scheduler, timesteps, gamma),
    [Symbol.dispose]: () => scheduler[Symbol.dispose](),
  };
}

/**
 * 'logit_normal' makes timesteps in the middle more frequent: t = σ(u), u normal with the given mean and deviation (Esser
 * et al., arXiv 2403.03206, section 3.1; 0 is no noise), of which the timestep is ⌊t · numTrainTimesteps⌋.
 */
function sampleTimesteps(
  rows: number,
  numTrainTimesteps: number,
  { timestepSampling, logitMean, logitStd }: TimestepOptions,
  source: RandomSource,
): Tensor {
  if (timestepSampling === 'uniform') return randint(0, numTrainTimesteps, [rows], source);
  const t = randn([rows], source).mul(logitStd).add(logitMean).sigmoid();
  // float32 rounds the largest t to 1.
  return t
    .mul(numTrainTimesteps)
    .to('int64')
    .clamp(0, numTrainTimesteps - 1);
}

/**
 * min(SNR, γ) / SNR where the model predicts the noise, min(SNR, γ) / (SNR + 1) where it predicts the velocity (Hang et
 * al., arXiv 2303.09556; diffusers `examples/text_to_image/train_text_to_image.py`).
 */
function minSnrWeights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: number): Tensor {
  const snr = scheduler.signalToNoise(timesteps);
  if (scheduler.config.prediction_type === 'v_prediction') return snr.clamp(null, gamma).div(snr.add(1));
  // The same as min(SNR, γ) / SNR, and 1 where no signal is left.
  return snr.pow(-1).mul(gamma).clamp(null, 1);
}
