/**
 * @file One step of training, from the rows to the new weights:
 *
 *     rows ─► encoders ─► + noise ─► micro-batches ─► loss ─► backward ─► clip ─► AdamW ─► moving average
 *
 * The gradients of the micro-batches add up to those of the whole batch: only the memory is that of a small one.
 */
import type { Part, ResolvedTrainOptions } from './config.js';
import type { Examples } from './data/data-loader.js';
import { type Encode, encodeBatch, type FrozenModels } from './frozen-models.js';
import type { IPAdapter } from './ip-adapter/ip-adapter.js';
import type { NanGuard } from './nan-guard.js';
import { drawNoise } from './noise.js';
import { clipGradNorm, gradientsOf, gradNorm } from './optim/clip-grad-norm.js';
import type { Optimization } from './optimization.js';
import type { StepMetrics } from './step-reporter.js';
import { backward, cat, type Generator, GradientCheckpoints, type Tensor, tidy } from './torch/index.js';
import { type StepInputs, type TrainingLoss, trainingLoss } from './training-loss.js';

/** All that a step works with. */
export interface Training extends Optimization {
  config: ResolvedTrainOptions;
  models: FrozenModels;
  encoders: Record<Part, Encode>;
  adapter: IPAdapter;
  /** Draws the VAE's samples, noise and timesteps. */
  generator: Generator;
  guard: NanGuard;
  /** Is given each phase to run: who measures a step looks at the clock and the memory there. Default: runs it. */
  around?: Around;
}

type Phase = 'forward' | 'backward' | 'update';
type Around = <T>(phase: Phase, work: () => T) => T;
const justRun: Around = (_, work) => work();

/**
 * The results are on the device, which is waited for once: the weights may not be touched before loss and gradients are
 * known to be finite.
 * @param step its number, from 1
 * @returns null where the guard had the batch skipped: nothing has changed
 * @throws TrainingError where a loss or gradient is NaN or infinite, and may not be skipped
 */
export function trainStep(training: Training, batch: Examples, step: number): StepMetrics | null {
  const { config, models, adapter, generator, optimizer, ema, scaler, around = justRun } = training;
  return tidy(() => {
    const encoded = encodeBatch(training.encoders, models, batch, generator);
    const { shape, device } = encoded.latents;
    const noise = drawNoise(shape, models.scheduler.numTrainTimesteps, config, { generator, device });
    const { loss, rowLosses } = accumulateGradients(training, { ...encoded, ...noise });
    const gradients = gradientsOf(adapter.parameters());
    scaler?.unscale(gradients);
    const norm = gradNorm(gradients);
    // What a scaled loss makes infinite in float16 is the scaler's to skip; all else is a fault.
    const mayOverflow = scaler !== null && scaler.scale > 1;
    const parameters = adapter.namedParameters();
    const details = { step, timesteps: noise.timesteps, rows: batch.rows, parameters };
    if (!training.guard.accepts(loss, mayOverflow ? null : norm, details)) {
      optimizer.zeroGrad();
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
    optimizer.zeroGrad();
    return { loss, rowLosses, timesteps: noise.timesteps, gradNorm: norm, learningRates };
  });
}

/** Runs backward for one micro-batch after another, each with its share of the rows, and gives the loss of all. */
function accumulateGradients(
  { config, models, adapter, scaler, around = justRun }: Training,
  inputs: StepInputs,
): TrainingLoss {
  const [rows = 0] = inputs.latents.shape;
  const losses = microBatches(inputs, config.trainBatchSize).map((micro) =>
    tidy(() => {
      const [microRows = 0] = micro.latents.shape;
      using checkpoints = config.gradientCheckpointing ? new GradientCheckpoints() : null;
      const { loss, rowLosses } = around('forward', () => trainingLoss(models, adapter, micro, config));
      const share = loss.mul(microRows / rows);
      around('backward', () => {
        backward(scaler === null ? share : share.mul(scaler.scale));
        checkpoints?.backward();
      });
      return { loss: share.detach(), rowLosses };
    }),
  );
  return {
    loss: losses.map(({ loss }) => loss).reduce((sum, loss) => sum.add(loss)),
    rowLosses: cat(losses.map(({ rowLosses }) => rowLosses)),
  };
}

/** Slices of at most `size` rows. */
function microBatches(inputs: StepInputs, size: number): StepInputs[] {
  const [rows = 0] = inputs.latents.shape;
  return Array.from({ length: Math.ceil(rows / size) }, (_, i) => {
    const rowsOf = (tensor: Tensor): Tensor => tensor.slice(0, i * size, (i + 1) * size);
    return {
      latents: rowsOf(inputs.latents),
      noise: rowsOf(inputs.noise),
      timesteps: rowsOf(inputs.timesteps),
      textStates: rowsOf(inputs.textStates),
      imageFeatures: rowsOf(inputs.imageFeatures),
    };
  });
}
