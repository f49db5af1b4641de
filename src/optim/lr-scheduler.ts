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
  /** The learning rate that the factor multiplies. `polynomial` needs it, because it ends at a fixed rate. */
  learningRate: number;
  /** Steps in which the rate rises from 0; not used by `constant`. */
  warmupSteps: number;
  /** Steps of the whole run, including the warm-up. */
  totalSteps: number;
  /** The number of cosine cycles of `cosine_with_restarts`. */
  numCycles: number;
  /** The exponent of `polynomial`. */
  power: number;
}

/** Returns the factor of the learning rate in the next update, from the number of updates so far. */
export type Schedule = (step: number) => number;

/** The final learning rate of `polynomial`. */
const endLearningRate = 1e-7;

/** Whether a schedule depends on the length of the run. */
export function dependsOnTotal(name: ScheduleOptions['name']): boolean {
  return name !== 'constant' && name !== 'constant_with_warmup';
}

/** Returns a schedule. @throws ConfigError where `polynomial` would start at or below its final learning rate */
export function lrSchedule(options: ScheduleOptions): Schedule {
  const { name, warmupSteps } = options;
  if (name === 'constant') return () => 1;
  const decay = decayOf(options);
  return (step) => (step < warmupSteps ? step / warmupSteps : decay(step));
}

/** Returns the schedule after the warm-up. */
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
          `Expected a learning rate above ${endLearningRate}, the final one of --lr-scheduler polynomial, but received ${learningRate}; give a higher one or another --lr-scheduler`,
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
