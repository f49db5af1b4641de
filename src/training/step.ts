/**
 * @file One training step, from the rows to the new weights:
 *
 *     rows ─► encoders ─► + noise ─► micro-batches ─► loss ─► backward ─► clip ─► AdamW ─► moving average
 *
 * The gradients of the micro-batches add up to those of the whole batch, with the memory of one micro-batch.
 */

import type { IPAdapter } from '../adapters/ip-adapter.js';
import { TrainingError } from '../base/errors.js';
import type { Batch } from '../data/data-loader.js';
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
  randn,
  type Tensor,
  tensor,
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
  /**
   * Whether the gradient tensors stay allocated between steps: a CUDA graph adds to those that it was recorded with, and
   * several processes reduce them as one buffer. Default: false.
   */
  keepsGradients?: boolean;
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
 * Remembers the state before a step. The returned function restores it after a step that failed, so that it can be saved,
 * and returns the error to throw: a TornStepError where some weights have been updated already.
 */
export function beforeStep({ generator, optimizer }: Training, step: number): (error: unknown) => unknown {
  const [generatorState, updates] = [generator.getState(), optimizer.steps];
  return (error) => {
    if (optimizer.steps !== updates)
      return new TornStepError(
        `Step ${step} failed while it updated the weights, so these are not saved: ${(error as Error).message}`,
        { cause: error },
      );
    generator.setState(generatorState, `step ${step}`);
    return error;
  };
}

/** Calls `trainStep`. If it fails, restores the state before the step. @throws as `trainStep`; TornStepError */
export function stepOrRestore(training: Training, batch: StepBatch, step: number): StepMetrics | null {
  const restore = beforeStep(training, step);
  try {
    return trainStep(training, batch, step);
  } catch (error) {
    throw restore(error);
  }
}

/**
 * Takes one optimizer step. The returned tensors stay on the device; the CPU waits for the device only where the guard or
 * the gradient scaler must know a value.
 * @param step the number of the step, from 1
 * @returns null where the guard skipped the batch; then nothing has changed
 * @throws TrainingError where a loss or gradient is NaN or infinite, and no more batches may be skipped
 */
export function trainStep(training: Training, batch: StepBatch, step: number): StepMetrics | null {
  return tidy(() => {
    const results = computeGradients(training, batch);
    return updateWeights(training, results, { step, rows: batch.rows });
  });
}

/** The rows that a process takes of a global batch. What is drawn for a row is drawn by its place in the global batch. */
export type StepBatch = Examples & Partial<Pick<Batch, 'planned' | 'places'>>;

/** The losses of a step's rows, without weights, and their timesteps. The gradients are in the parameters' `grad`. */
export interface StepResults extends TrainingLoss {
  /** int64, of the same rows */
  timesteps: Tensor;
}

/**
 * Adds the gradients of a batch's rows to the parameters' `grad`: those of the sum of the rows' losses / `divisor`, each
 * weighted by how much of the row its mask shows.
 * @param divisor default: the sum of these weights; they are 1 without masks
 * @returns the sum of the losses / `divisor`, the weights, and the timesteps of all rows of the global batch as `drawn`
 */
export function computeGradients(
  training: Training,
  batch: StepBatch,
  divisor?: number,
): StepResults & { drawn: Tensor; rowWeights: number[] } {
  const { config, models, generator } = training;
  const { planned = batch.rows.length, places } = batch;
  const own = (drawn: Tensor): Tensor => rowsAt(drawn, places);
  const encoded = encodeBatch(training.encoders, models, batch, (like) =>
    own(randn([planned, ...like.shape.slice(1)], { generator, dtype: like.dtype, device: like.device })),
  );
  const { shape, device } = encoded.latents;
  const drawn = drawNoise([planned, ...shape.slice(1)], models.objective, config, { generator, device });
  const [noise, timesteps] = [own(drawn.noise), own(drawn.timesteps)];
  const rowWeights = encoded.lossMask?.mean([1, 2, 3]).toNumbers() ?? batch.rows.map(() => 1);
  const divisorOfStep = divisor ?? rowWeights.reduce((sum, weight) => sum + weight, 0);
  const losses = accumulateGradients(training, { ...encoded, noise, timesteps }, divisorOfStep);
  return { ...losses, timesteps, drawn: drawn.timesteps, rowWeights };
}

/**
 * Draws what `computeGradients` draws for a batch of which this process has no row, so that all processes' generators stay
 * equal. @param like latents of no rows
 * @returns the timesteps of the global batch
 */
export function drawForOthers(
  { config, models, generator }: Training,
  { planned }: Pick<Batch, 'planned'>,
  like: Tensor,
): Tensor {
  const { shape, dtype, device } = like;
  const drawnShape = [planned, ...shape.slice(1)];
  randn(drawnShape, { generator, dtype, device });
  return drawNoise(drawnShape, models.objective, config, { generator, device }).timesteps;
}

/** Returns the rows of a tensor at places, which ascend: a view where they follow each other. */
function rowsAt(drawn: Tensor, places: readonly number[] | undefined): Tensor {
  if (places === undefined || places.length === drawn.shape[0]) return drawn;
  const [first = 0] = places;
  if (places.at(-1) === first + places.length - 1) return drawn.slice(0, first, first + places.length);
  return drawn.indexSelect(0, tensor(places, [places.length], 'int64').to(drawn.device));
}

/**
 * Updates the weights from the gradients in the parameters' `grad`, and clears these.
 * @param results of all rows of the step
 * @returns null where the guard skipped the batch; then no weight has changed
 * @throws TrainingError as `trainStep`
 */
export function updateWeights(
  training: Training,
  { loss, rowLosses, timesteps }: StepResults,
  stepDetails: { step: number; rows: readonly number[]; ranks?: string },
): StepMetrics | null {
  const { config, adapter, optimizer, ema, scaler, measure = withoutMeasuring } = training;
  const gradients = gradientsOf(adapter.parameters());
  scaler?.unscale(gradients);
  const norm = gradNorm(gradients);
  // In float16 a scaled loss may overflow: then the scaler skips the update. Any other infinity is a fault.
  const mayOverflow = scaler !== null && scaler.scale > 1;
  const details = { ...stepDetails, timesteps, parameters: adapter.namedParameters() };
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
  return { loss, rowLosses, timesteps, gradNorm: norm, learningRates };
}

/** Clears the gradients. */
function clearGradients({ optimizer, keepsGradients = false }: Training): void {
  optimizer.zeroGrad({ setToNone: !keepsGradients });
}

/** Runs forward and backward of each micro-batch, weighted by its rows / `divisor`. */
function accumulateGradients(training: Training, inputs: StepInputs, divisor: number): TrainingLoss {
  const { config, scaler, forwardBackward = createForwardBackward(training) } = training;
  const { device } = inputs.latents;
  const losses = microBatches(inputs, config.batchSize).map((micro) => {
    const share = (micro.latents.shape[0] ?? 0) / divisor;
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
  config: Pick<ResolvedTrainOptions, 'gradientCheckpointing' | 'snrGamma'> &
    Partial<Pick<ResolvedTrainOptions, 'referencesPerRow'>>;
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
