/** @file Learning rate schedules, as functions of the step (diffusers `src/diffusers/optimization.py`). */
import { ConfigError } from '../base/errors.js';

export const lrSchedulers = [
  'constant',
  'constant_with_warmup',
  'linear',
  'cosine',
  'cosine_with_restarts',
  'polynomial',
] as const;

export interface ScheduleOptions {
  name: (typeof lrSchedulers)[number];
  /** What the factor is meant for; `polynomial` ends at a fixed rate, and so needs it. */
  learningRate: number;
  /** Steps in which the rate rises from 0, with all but `constant`. */
  warmupSteps: number;
  /** Steps of the whole run, the warm-up included. */
  totalSteps: number;
  /** How often `cosine_with_restarts` falls from 1 to 0. */
  numCycles: number;
  /** The exponent of `polynomial`. */
  power: number;
}

/** Updates so far → what the learning rate is multiplied by in the next update. */
export type Schedule = (step: number) => number;

/** Where `polynomial` ends. */
const endLearningRate = 1e-7;

/** Whether a schedule looks different in a run of another length. */
export function dependsOnTotal(name: ScheduleOptions['name']): boolean {
  return name !== 'constant' && name !== 'constant_with_warmup';
}

/** @throws ConfigError where `polynomial` would have to rise to its end */
export function lrSchedule(options: ScheduleOptions): Schedule {
  const { name, warmupSteps } = options;
  if (name === 'constant') return () => 1;
  const decay = decayOf(options);
  return (step) => (step < warmupSteps ? step / warmupSteps : decay(step));
}

/** What follows the warm-up. */
function decayOf(options: ScheduleOptions): Schedule {
  const { name, learningRate, warmupSteps, totalSteps, numCycles, power } = options;
  const decaySteps = Math.max(1, totalSteps - warmupSteps);
  /** 0 after the warm-up, 1 after the last step of the run. */
  const progress = (step: number): number => (step - warmupSteps) / decaySteps;
  switch (name) {
    case 'linear':
      return (step) => Math.max(0, (totalSteps - step) / decaySteps);
    case 'cosine':
      return (step) => halfCosine(progress(step));
    case 'cosine_with_restarts':
      return (step) => (progress(step) >= 1 ? 0 : halfCosine((numCycles * progress(step)) % 1));
    case 'polynomial': {
      if (learningRate <= endLearningRate)
        throw new ConfigError(
          `Expected a learning rate above ${endLearningRate}, where the schedule polynomial ends, but received ${learningRate}; give a higher one or another --lr-scheduler`,
        );
      const end = endLearningRate / learningRate;
      return (step) => (step > totalSteps ? end : (1 - end) * (1 - progress(step)) ** power + end);
    }
    default:
      return () => 1;
  }
}

/** 1 at 0, 0 at 1. */
function halfCosine(progress: number): number {
  return 0.5 * (1 + Math.cos(Math.PI * progress));
}
