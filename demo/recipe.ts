/** @file How `npm start` trains and generates; the benches of the demo's world do the same. */

import { flagOf } from '../src/options/options.js';

/** Options of training, without data, folders and length. */
export const RECIPE = {
  model: 'demo/models',
  imageEncoder: 'demo/models/image_encoder',
  resolution: 64,
  batchSize: 16,
  learningRate: 5e-4,
  // Stays high for long, and ends at 0: in single runs half a cosine and a straight line taught less.
  lrScheduler: 'polynomial',
  lrPower: 0.4,
  lrWarmupSteps: 30,
  // More of the noisy timesteps, in which places and colours are decided: 65 % instead of 61 % by bench/demo.ts, 3 seeds × 4 sets.
  timestepSampling: 'logit_normal',
  logitMean: 0.5,
  logitStd: 1.2,
} as const;

/** Options of generation. */
export const DRAW = { steps: 20, guidanceScale: 3, batchSize: 32 };

/** Returns the options of training as flags. @param others options beside them, or in place of them */
export function recipeFlags(others: Readonly<Record<string, string>> = {}): string[] {
  return Object.entries({ ...RECIPE, ...others }).flatMap(([key, value]) => [flagOf(key), String(value)]);
}
