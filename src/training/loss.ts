/** @file The loss: how far the backbone with the adapter is from predicting the noise, or the velocity. */
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { Backbone } from '../diffusion/model.js';
import type { Objective } from '../diffusion/objective.js';
import { mseLoss, mseLossPerRow } from '../nn/functional.js';
import type { Tensor } from '../torch/index.js';
import type { EncodedBatch } from './encodings/frozen-encoders.js';
import type { Noise } from './noise.js';

/** What the loss of a step is made of: a record of tensors with a row for each image. */
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

export interface LossModels {
  backbone: Backbone;
  objective: Objective;
}

/** Returns the mean squared error between the backbone's prediction and its target. */
export function trainingLoss(
  { backbone, objective }: LossModels,
  adapter: IPAdapter,
  { latents, noise, timesteps, conditioning, imageFeatures }: StepInputs,
  { snrGamma }: LossOptions = {},
): TrainingLoss {
  const { dtype } = conditioning.text;
  const noisy = objective.noisy(latents, noise, timesteps).to(dtype);
  const imageTokens = adapter.call(imageFeatures).to(dtype);
  const additions = [adapter.addition(imageTokens)];
  const prediction = backbone.predict(noisy, timesteps, conditioning, additions).to('float32');
  const target = objective.target(latents, noise, timesteps);
  const perRow = mseLossPerRow(prediction, target);
  const loss =
    snrGamma === undefined
      ? mseLoss(prediction, target)
      : perRow.mul(objective.minSnrWeights(timesteps, snrGamma)).mean();
  return { loss, rowLosses: perRow.detach() };
}
