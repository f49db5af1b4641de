/**
 * @file One step of training, from the rows to the new weights:
 *
 *     rows ─► encoders ─► + noise ─► micro-batches ─► loss ─► backward ─► clip ─► AdamW ─► moving average
 *
 * The gradients of the micro-batches add up to those of the whole batch: only the memory is that of a small one.
 */

import type { IPAdapter } from '../adapters/ip-adapter.js';
import { TrainingError } from '../base/errors.js';
import type { Examples } from '../data/data-loader.js';
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

/** All that a step works with. */
export interface Training extends Optimization {
  config: ResolvedTrainOptions;
  models: LossModels & BatchModels;
  encoders: Record<Part, Encode>;
  adapter: IPAdapter;
  /** Draws the VAE's samples, noise and timesteps. */
  generator: Generator;
  guard: NanGuard;
  /** As `gradientAdder`, recorded. Default: not recorded. */
  addGradients?: AddGradients | undefined;
  /** Is given each phase to run: who measures a step looks at the clock and the memory there. Default: runs it. */
  around?: Around;
}

type Phase = 'forward' | 'backward' | 'update';
type Around = <T>(phase: Phase, work: () => T) => T;
const justRun: Around = (_, work) => work();

/**
 * Adds the gradients of a micro-batch, times its weight, a scalar, to those of the parameters. Returns the micro-batch's
 * loss without its weight, and that of each row, without gradients.
 */
type AddGradients = (inputs: { rows: StepInputs; weight: Tensor }) => TrainingLoss;

/** A step failed while it updated the weights: what is in memory is neither the state before the step nor after it. */
export class TornStepError extends TrainingError {}

/**
 * As `trainStep`; where it fails, the noise that it has drawn is to be drawn again, so that the state before it can be
 * saved.
 * @throws TornStepError where that is not possible
 */
export function stepOrRestore(training: Training, batch: Examples, step: number): StepMetrics | null {
  const { generator, optimizer } = training;
  const [noise, updates] = [generator.getState(), optimizer.steps];
  try {
    return trainStep(training, batch, step);
  } catch (error) {
    if (optimizer.steps !== updates)
      throw new TornStepError(
        `Step ${step} failed while it updated the weights, so these are not saved: ${(error as Error).message}`,
        { cause: error },
      );
    generator.setState(noise, `step ${step}`);
    throw error;
  }
}

/**
 * The results are on the device. It is not waited for, but for what the guard and the scaler have to know.
 * @param step its number, from 1
 * @returns null where the guard had the batch skipped: nothing has changed
 * @throws TrainingError where a loss or gradient is NaN or infinite, and may not be skipped
 */
export function trainStep(training: Training, batch: Examples, step: number): StepMetrics | null {
  const { config, models, adapter, generator, optimizer, ema, scaler, around = justRun } = training;
  return tidy(() => {
    const encoded = encodeBatch(training.encoders, models, batch, generator);
    const { shape, device } = encoded.latents;
    const noise = drawNoise(shape, models.objective, config, { generator, device });
    const { loss, rowLosses } = accumulateGradients(training, { ...encoded, ...noise });
    const gradients = gradientsOf(adapter.parameters());
    scaler?.unscale(gradients);
    const norm = gradNorm(gradients);
    // What a scaled loss makes infinite in float16 is the scaler's to skip; all else is a fault.
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
    // A skipped update does not count: neither the schedule nor the moving average goes on.
    if (scaler === null || scaler.update(norm)) {
      around('update', () => {
        optimizer.step();
        ema?.step(optimizer.steps);
      });
    }
    clearGradients(training);
    return { loss, rowLosses, timesteps: noise.timesteps, gradNorm: norm, learningRates };
  });
}

/** What is recorded adds to the gradients where it found them. */
function clearGradients({ optimizer, addGradients }: Training): void {
  optimizer.zeroGrad({ setToNone: addGradients === undefined });
}

/** Runs backward for one micro-batch after another, each with its share of the rows, and gives the loss of all. */
function accumulateGradients(training: Training, inputs: StepInputs): TrainingLoss {
  const { config, scaler, addGradients = gradientAdder(training) } = training;
  const { shape, device } = inputs.latents;
  const [rows = 0] = shape;
  const losses = microBatches(inputs, config.batchSize).map((micro) => {
    const share = (micro.latents.shape[0] ?? 0) / rows;
    const weight = full([], share, { device }).mul(scaler?.scale ?? 1);
    const { loss, rowLosses } = addGradients({ rows: micro, weight });
    return { loss: loss.mul(share), rowLosses };
  });
  return {
    loss: losses.map(({ loss }) => loss).reduce((sum, loss) => sum.add(loss)),
    rowLosses: cat(losses.map(({ rowLosses }) => rowLosses)),
  };
}

interface GradientParts extends Pick<Training, 'adapter' | 'around'> {
  config: Pick<ResolvedTrainOptions, 'gradientCheckpointing' | 'snrGamma'>;
  models: LossModels;
}

/** Forward and backward of a micro-batch. */
export function gradientAdder({ config, models, adapter, around = justRun }: GradientParts): AddGradients {
  return ({ rows, weight }) =>
    tidy(() => {
      using checkpoints = config.gradientCheckpointing ? new GradientCheckpoints() : null;
      const { loss, rowLosses } = around('forward', () => trainingLoss(models, adapter, rows, config));
      around('backward', () => {
        backward(loss.mul(weight));
        checkpoints?.backward();
      });
      return { loss: loss.detach(), rowLosses };
    });
}

/** Slices of at most `size` rows. */
function microBatches(inputs: StepInputs, size: number): StepInputs[] {
  const [rows = 0] = inputs.latents.shape;
  return Array.from({ length: Math.ceil(rows / size) }, (_, i) =>
    mapTensors(inputs, (tensor) => tensor.slice(0, i * size, (i + 1) * size)),
  );
}
