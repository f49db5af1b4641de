/** @file The loss: how far the UNet with the adapter is from predicting the noise, or the velocity. */

import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { EncodedBatch, FrozenModels } from '../diffusion/frozen-models.js';
import { mseLoss, mseLossPerRow } from '../nn/functional.js';
import type { DDPMScheduler } from '../schedulers/ddpm.js';
import { cat, type Tensor } from '../torch/index.js';
import type { Noise } from './noise.js';

/** What the loss of a step is made of. */
export interface StepInputs extends EncodedBatch, Noise {}

export interface LossOptions {
  /** γ of Min-SNR weights; without it every row counts the same. */
  snrGamma?: number | undefined;
}

export interface TrainingLoss {
  /** The mean over the rows, by their weights, a float32 scalar. */
  loss: Tensor;
  /** Each row's own without its weight, float32 [b]; to look at, without gradients. */
  rowLosses: Tensor;
}

/** The mean squared error between the UNet's prediction and its target. */
export function trainingLoss(
  { unet, scheduler }: Pick<FrozenModels, 'unet' | 'scheduler'>,
  adapter: IPAdapter,
  { latents, noise, timesteps, textStates, imageFeatures }: StepInputs,
  { snrGamma }: LossOptions = {},
): TrainingLoss {
  const noisyLatents = scheduler.addNoise(latents, noise, timesteps).to(textStates.dtype);
  const imageTokens = adapter.call(imageFeatures).to(textStates.dtype);
  const prediction = unet.call(noisyLatents, timesteps, cat([textStates, imageTokens], 1)).to('float32');
  const target = scheduler.target(latents, noise, timesteps);
  const perRow = mseLossPerRow(prediction, target);
  const loss =
    snrGamma === undefined
      ? mseLoss(prediction, target)
      : perRow.mul(minSnrWeights(scheduler, timesteps, snrGamma)).mean();
  return { loss, rowLosses: perRow.detach() };
}

/**
 * The weight of each row, [b]: min(SNR, γ) / SNR where the UNet predicts the noise, min(SNR, γ) / (SNR + 1) where it
 * predicts the velocity (Hang et al., arXiv 2303.09556; diffusers
 * `examples/text_to_image/train_text_to_image.py`).
 */
export function minSnrWeights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: number): Tensor {
  const snr = scheduler.signalToNoise(timesteps);
  if (scheduler.config.prediction_type === 'v_prediction') return snr.clamp(null, gamma).div(snr.add(1));
  // The same as min(SNR, γ) / SNR, and 1 where no signal is left.
  return snr.pow(-1).mul(gamma).clamp(null, 1);
}
