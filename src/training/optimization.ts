/** @file What makes new weights of gradients, as the options ask for it, and how it goes on from a checkpoint. */
import { join } from 'node:path';
import { readAdapter } from '../adapters/adapter-file.js';
import { AdamW, type ParameterGroup } from '../optim/adamw.js';
import { EMA } from '../optim/ema.js';
import { GradScaler } from '../optim/grad-scaler.js';
import { dependsOnTotal, lrSchedule, type Schedule } from '../optim/lr-scheduler.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import type { Tensor } from '../torch/index.js';
import { emaFile, type loadCheckpoint } from './checkpoints/checkpoint.js';

export interface Optimization {
  optimizer: AdamW;
  /** The factor of the learning rates, by the optimizer's updates so far. */
  schedule: Schedule;
  /** Where the run keeps a moving average. */
  ema: EMA | null;
  /** In float16 only. */
  scaler: GradScaler | null;
}

/**
 * @param parameters the adapter's, by official keys; groups are the image projection, then the adapter modules
 * @param totalSteps of the whole run
 * @throws ConfigError where a learning rate and the schedule do not go together
 */
export function createOptimization(
  parameters: ReadonlyMap<string, Tensor>,
  config: ResolvedTrainOptions,
  totalSteps: number,
): Optimization {
  const scale = config.scaleLr ? config.batchSize * config.gradientAccumulationSteps : 1;
  const group = (part: string, learningRate = config.learningRate): ParameterGroup => ({
    parameters: new Map([...parameters].filter(([key]) => key.startsWith(`${part}.`))),
    learningRate: learningRate * scale,
  });
  const optimizer = new AdamW(
    {
      image_proj: group('image_proj', config.imageProjLearningRate),
      ip_adapter: group('ip_adapter', config.ipAdapterLearningRate),
    },
    {
      betas: [config.adamBeta1, config.adamBeta2],
      eps: config.adamEpsilon,
      weightDecay: config.weightDecay,
    },
  );
  const schedule = lrSchedule({
    name: config.lrScheduler,
    learningRate: config.learningRate * scale,
    warmupSteps: config.lrWarmupSteps,
    totalSteps,
    numCycles: config.lrNumCycles,
    power: config.lrPower,
  });
  return {
    optimizer,
    schedule,
    ema: config.useEma ? new EMA(parameters, config.emaDecay) : null,
    scaler: config.mixedPrecision === 'fp16' ? new GradScaler() : null,
  };
}

/**
 * Goes on from a checkpoint of the same options.
 * @throws CheckpointError where its state is of other parameters
 */
export function restoreOptimization(
  { optimizer, ema, scaler }: Optimization,
  { state, optimizer: moments }: ReturnType<typeof loadCheckpoint>,
  path: string,
): void {
  optimizer.loadStateDict(moments, state.updates, path);
  if (ema !== null) {
    const file = join(path, emaFile);
    const averages = readAdapter(file);
    try {
      ema.loadStateDict(averages, file);
    } finally {
      for (const tensor of averages.values()) tensor.dispose();
    }
  }
  if (state.gradScaler !== undefined) scaler?.loadStateDict(state.gradScaler);
}

/** The tensors that are kept beside the parameters. */
export function stateOf({ optimizer, ema }: Optimization): Tensor[] {
  return [...optimizer.stateDict().values(), ...(ema?.stateDict().values() ?? [])];
}

/** What the learning rate of a run does, where that is worth a word. */
export function describeSchedule(
  { lrScheduler, lrWarmupSteps }: ResolvedTrainOptions,
  totalSteps: number,
  savedTotalSteps = totalSteps,
): string | null {
  if (lrScheduler === 'constant') return null;
  const length = dependsOnTotal(lrScheduler) ? `, over ${totalSteps} steps` : '';
  const changed =
    length === '' || savedTotalSteps === totalSteps
      ? ''
      : `; the checkpoint's run was to have ${savedTotalSteps}, so that the learning rate goes on another curve`;
  return `Learning rate: ${lrScheduler}, ${lrWarmupSteps} warm-up steps${length}${changed}`;
}
