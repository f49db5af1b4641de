/**
 * @file One training step, from the rows to the new weights:
 *
 *     rows ─► encoders ─► + noise ─► micro-batches ─► loss ─► backward ─► clip ─► AdamW ─► moving average
 *
 * The gradients of the micro-batches add up to those of the whole batch, with the memory of one micro-batch.
 */

import type { IPAdapter } from '../adapters/ip-adapter.js';
import { TrainingError } from '../base/errors.js';
import type { Examples } from '../data/examples.js';
import { clipGradNorm, gradientsOf, gradNorm } from '../optim/clip-grad-norm.js';
import type { Part, ResolvedTrainOptions } from '../options/train-options.js';
import {
  backward,
  cat,
  full,
  type Generator,
  GradientCheckpoints,
  mapTensors,
  type Tensor,
  tidy,
} from '../torch/index.js';
import { type BatchModels, type Encode, encodeBatch } from './encodings/frozen-encoders.js';
import { type LossModels, type StepInputs, type TrainingLoss, trainingLoss } from './loss.js';
import type { NanGuard } from './nan-guard.js';
import { drawNoise } from './noise.js';
import type { Optimization } from './optimization.js';
import type { StepMetrics } from './reports/step-reporter.js';

/** Everything that a step uses. */
export interface Training extends Optimization {
  config: ResolvedTrainOptions;
  models: LossModels & BatchModels;
  encoders: Record<Part, Encode>;
  adapter: IPAdapter;
  /** Draws the VAE's samples, noise and timesteps. */
  generator: Generator;
  guard: NanGuard;
  /** A function of `createForwardBackward`, recorded as CUDA graphs. Default: one that is not recorded. */
  forwardBackward?: ForwardBackward | undefined;
  /** Runs each phase of a step and measures it, for the dry run and benchmarks. Default: runs it without measuring. */
  measure?: MeasurePhase;
}

type Phase = 'forward' | 'backward' | 'update';
type MeasurePhase = <T>(phase: Phase, work: () => T) => T;
const withoutMeasuring: MeasurePhase = (_, work) => work();

/**
 * Runs forward and backward of a micro-batch: adds its gradients, times its weight (a scalar), to the parameters' `grad`.
 * Returns the losses without the weight, detached.
 */
type ForwardBackward = (inputs: { rows: StepInputs; weight: Tensor }) => TrainingLoss;

/** A step failed while it updated the weights. The weights in memory are neither those before the step nor those after. */
export class TornStepError extends TrainingError {}

/**
 * Calls `trainStep`. If it fails, restores the noise generator, so that the state before the step can be saved.
 * @throws TornStepError where some weights have been updated already
 */
export function stepOrRestore(training: Training, batch: Examples, step: number): StepMetrics | null {
  const { generator, optimizer } = training;
  const [generatorState, updates] = [generator.getState(), optimizer.steps];
  try {
    return trainStep(training, batch, step);
  } catch (error) {
    if (optimizer.steps !== updates)
      throw new TornStepError(
        `Step ${step} failed while it updated the weights, so these are not saved: ${(error as Error).message}`,
        { cause: error },
      );
    generator.setState(generatorState, `step ${step}`);
    throw error;
  }
}

/**
 * Takes one optimizer step. The returned tensors stay on the device; the CPU waits for the device only where the guard or
 * the gradient scaler must know a value.
 * @param step the number of the step, from 1
 * @returns null where the guard skipped the batch; then nothing has changed
 * @throws TrainingError where a loss or gradient is NaN or infinite, and no more batches may be skipped
 */
export function trainStep(training: Training, batch: Examples, step: number): StepMetrics | null {
  const { config, models, adapter, generator, optimizer, ema, scaler, measure = withoutMeasuring } = training;
  return tidy(() => {
    const encoded = encodeBatch(training.encoders, models, batch, generator);
    const { shape, device } = encoded.latents;
    const noise = drawNoise(shape, models.objective, config, { generator, device });
    const { loss, rowLosses } = accumulateGradients(training, { ...encoded, ...noise });
    const gradients = gradientsOf(adapter.parameters());
    scaler?.unscale(gradients);
    const norm = gradNorm(gradients);
    // In float16 a scaled loss may overflow: then the scaler skips the update. Any other infinity is a fault.
    const mayOverflow = scaler !== null && scaler.scale > 1;
    const parameters = adapter.namedParameters();
    const details = { step, timesteps: noise.timesteps, rows: batch.rows, parameters };
    if (!training.guard.accepts(loss, mayOverflow ? null : norm, details)) {
      clearGradients(training);
      return null;
    }
    if (config.maxGradNorm !== undefined) clipGradNorm(gradients, norm, config.maxGradNorm);

    optimizer.learningRateFactor = training.schedule(optimizer.steps);
    const { learningRates } = optimizer;
    // A skipped update does not count: the schedule and the moving average do not advance.
    if (scaler === null || scaler.update(norm)) {
      measure('update', () => {
        optimizer.step();
        ema?.step(optimizer.steps);
      });
    }
    clearGradients(training);
    return { loss, rowLosses, timesteps: noise.timesteps, gradNorm: norm, learningRates };
  });
}

/** Clears the gradients. A CUDA graph adds to the gradient tensors that it was recorded with, so those stay allocated. */
function clearGradients({ optimizer, forwardBackward }: Training): void {
  optimizer.zeroGrad({ setToNone: forwardBackward === undefined });
}

/** Runs forward and backward of each micro-batch, weighted by its share of the rows; returns the losses of the whole batch. */
function accumulateGradients(training: Training, inputs: StepInputs): TrainingLoss {
  const { config, scaler, forwardBackward = createForwardBackward(training) } = training;
  const { shape, device } = inputs.latents;
  const [rows = 0] = shape;
  const losses = microBatches(inputs, config.batchSize).map((micro) => {
    const share = (micro.latents.shape[0] ?? 0) / rows;
    const weight = full([], share, { device }).mul(scaler?.scale ?? 1);
    const { loss, rowLosses } = forwardBackward({ rows: micro, weight });
    return { loss: loss.mul(share), rowLosses };
  });
  return {
    loss: losses.map(({ loss }) => loss).reduce((sum, loss) => sum.add(loss)),
    rowLosses: cat(losses.map(({ rowLosses }) => rowLosses)),
  };
}

interface ForwardBackwardParts extends Pick<Training, 'adapter' | 'measure'> {
  config: Pick<ResolvedTrainOptions, 'gradientCheckpointing' | 'snrGamma'>;
  models: LossModels;
}

/** Returns the function that runs forward and backward of a micro-batch. */
export function createForwardBackward({
  config,
  models,
  adapter,
  measure = withoutMeasuring,
}: ForwardBackwardParts): ForwardBackward {
  return ({ rows, weight }) =>
    tidy(() => {
      using checkpoints = config.gradientCheckpointing ? new GradientCheckpoints() : null;
      const { loss, rowLosses } = measure('forward', () => trainingLoss(models, adapter, rows, config));
      measure('backward', () => {
        backward(loss.mul(weight));
        checkpoints?.backward();
      });
      return { loss: loss.detach(), rowLosses };
    });
}

/** Returns the rows in slices of at most `size` rows. */
function microBatches(inputs: StepInputs, size: number): StepInputs[] {
  const [rows = 0] = inputs.latents.shape;
  return Array.from({ length: Math.ceil(rows / size) }, (_, i) =>
    mapTensors(inputs, (tensor) => tensor.slice(0, i * size, (i + 1) * size)),
  );
}
