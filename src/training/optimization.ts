/** @file The optimizer, learning-rate schedule, moving average and gradient scaler of a run, from its options or a checkpoint. */
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
  /** Returns the factor of the learning rates after a number of optimizer updates. */
  schedule: Schedule;
  /** The moving average of the adapter; null without `--use-ema`. */
  ema: EMA | null;
  /** The gradient scaler; null unless the frozen models run in float16. */
  scaler: GradScaler | null;
}

/**
 * Returns the optimization of a new run. The optimizer has two groups: the image projection, then the adapter modules.
 * @param parameters the adapter's parameters, by their official keys
 * @param totalSteps the number of steps of the whole run
 * @param worldSize the number of processes, each of which has `batchSize` rows
 * @throws ConfigError where a learning rate and the schedule contradict each other
 */
export function createOptimization(
  parameters: ReadonlyMap<string, Tensor>,
  config: ResolvedTrainOptions,
  totalSteps: number,
  worldSize = 1,
): Optimization {
  const scale = rateFactor(config, worldSize);
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
  return {
    optimizer,
    schedule: scheduleOf(config, totalSteps, worldSize),
    ema: config.useEma ? new EMA(parameters, config.emaDecay) : null,
    scaler: config.mixedPrecision === 'fp16' ? new GradScaler() : null,
  };
}

function rateFactor(config: ResolvedTrainOptions, worldSize: number): number {
  return config.scaleLr ? config.batchSize * config.gradientAccumulationSteps * worldSize : 1;
}

/** Returns the schedule of the learning rate over `totalSteps`. @throws as `createOptimization` */
export function scheduleOf(config: ResolvedTrainOptions, totalSteps: number, worldSize: number): Schedule {
  return lrSchedule({
    name: config.lrScheduler,
    learningRate: config.learningRate * rateFactor(config, worldSize),
    warmupSteps: config.lrWarmupSteps,
    totalSteps,
    numCycles: config.lrNumCycles,
    power: config.lrPower,
  });
}

/**
 * Restores the state that a checkpoint holds. The optimization must have been created from the same options.
 * @param path the checkpoint's folder, for errors
 * @throws CheckpointError where the checkpoint has other parameters
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

/** Returns the tensors that the optimization keeps beside the parameters. */
export function optimizationTensors({ optimizer, ema }: Pick<Optimization, 'optimizer' | 'ema'>): Tensor[] {
  return [...optimizer.stateDict().values(), ...(ema?.stateDict().values() ?? [])];
}

/** Returns a message about the learning-rate schedule; null for a constant learning rate. */
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
      : `; the checkpoint was saved with ${savedTotalSteps} total steps, so the schedule changes`;
  return `Learning rate: ${lrScheduler}, ${lrWarmupSteps} warm-up steps${length}${changed}`;
}
