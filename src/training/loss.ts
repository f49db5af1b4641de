/**
 * @file The training loss: the mean squared error between what the backbone with the adapter predicts and its target, the
 * noise (ε) or the velocity (v).
 */
import type { Gauge } from '../adapters/gauge.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { Backbone } from '../diffusion/model.js';
import type { Objective } from '../diffusion/objective.js';
import { mseLoss, mseLossPerRow } from '../nn/functional.js';
import type { Tensor } from '../torch/index.js';
import type { EncodedBatch } from './encodings/frozen-encoders.js';
import type { Noise } from './noise.js';

/** The inputs of the loss of a step: a record of tensors with one row for each image. */
export interface StepInputs extends EncodedBatch, Noise {}

export interface LossOptions {
  /** γ of the Min-SNR weights (Hang et al., arXiv 2303.09556); unset: equal weights. */
  snrGamma?: number | undefined;
  /** The references of a row, whose tokens are appended. Default: 1. */
  referencesPerRow?: number | undefined;
  /** Measures the adapter's addition. */
  gauge?: Gauge | undefined;
}

export interface TrainingLoss {
  /** The weighted mean over the rows, a float32 scalar; with masks it is not divided by the part that they show. */
  loss: Tensor;
  /** The loss of each row without its weight, in its mask, float32 [b], detached: for reports. */
  rowLosses: Tensor;
}

export interface LossModels {
  backbone: Backbone;
  objective: Objective;
}

/**
 * Returns the mean squared error between the backbone's prediction and its target, in float32.
 * @param adapter null: the backbone alone
 */
export function trainingLoss(
  { backbone, objective }: LossModels,
  adapter: IPAdapter | null,
  { latents, noise, timesteps, conditioning, imageFeatures, lossMask }: StepInputs,
  { snrGamma, referencesPerRow, gauge }: LossOptions = {},
): TrainingLoss {
  const { dtype } = conditioning.text;
  const noisy = objective.noisy(latents, noise, timesteps).to(dtype);
  const addition = adapter?.addition(imageTokens(adapter, imageFeatures, referencesPerRow).to(dtype));
  const additions = addition === undefined ? [] : [gauge?.observe(addition) ?? addition];
  // The square of a product with the root is the square, weighted.
  const weighted = (values: Tensor): Tensor =>
    lossMask === undefined ? values : values.mul(lossMask.sqrt());
  const prediction = weighted(backbone.predict(noisy, timesteps, conditioning, { additions }).to('float32'));
  const target = weighted(objective.target(latents, noise, timesteps));
  const perRow = mseLossPerRow(prediction, target);
  const loss =
    snrGamma === undefined
      ? mseLoss(prediction, target)
      : perRow.mul(objective.minSnrWeights(timesteps, snrGamma)).mean();
  const rowLosses = lossMask === undefined ? perRow : perRow.div(lossMask.mean([1, 2, 3]));
  return { loss, rowLosses: rowLosses.detach() };
}

/**
 * Returns the image tokens of each row. Those of several references are appended, so that one softmax chooses among them
 * (huggingface/diffusers `models/embeddings.py`, `MultiIPAdapterImageProjection`).
 */
function imageTokens(adapter: IPAdapter, features: Tensor, references = 1): Tensor {
  if (references === 1) return adapter.call(features);
  const [rows = 0, , ...feature] = features.shape;
  const tokens = adapter.call(features.reshape(rows * references, ...feature));
  const [, count = 0, width = 0] = tokens.shape;
  return tokens.reshape(rows, references * count, width);
}
