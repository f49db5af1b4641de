/** @file Training objectives: the noisy input and the prediction target of a diffusion model. */
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
  /** Returns the latents with the noise of their timesteps [batch] added. */
  noisy(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor;
  /** Returns what the backbone should predict, in the shape of the latents. */
  target(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor;
  /** Returns the Min-SNR weight of each row's loss, [batch]. */
  minSnrWeights(timesteps: Tensor, gamma: number): Tensor;
}

export interface RandomSource {
  generator: Generator;
  device: Device;
}

/** Returns the objective of DDPM: predict the noise (`epsilon`) or the velocity (`v_prediction`), as the config says. */
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
 * Draws timesteps, int64 [rows]. 'logit_normal' prefers timesteps in the middle: ⌊t · numTrainTimesteps⌋ with t = σ(u) and
 * u normal with mean logitMean and deviation logitStd (Esser et al., arXiv 2403.03206, section 3.1; t = 0 is no noise).
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
 * Returns min(SNR, γ) / SNR for noise prediction and min(SNR, γ) / (SNR + 1) for velocity prediction (Hang et al.,
 * arXiv 2303.09556; diffusers `examples/text_to_image/train_text_to_image.py`).
 */
function minSnrWeights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: number): Tensor {
  const snr = scheduler.signalToNoise(timesteps);
  if (scheduler.config.prediction_type === 'v_prediction') return snr.clamp(null, gamma).div(snr.add(1));
  // min(γ / SNR, 1) equals min(SNR, γ) / SNR, and is 1 where SNR is 0.
  return snr.pow(-1).mul(gamma).clamp(null, 1);
}
