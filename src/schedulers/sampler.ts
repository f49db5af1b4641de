/**
 * @file What the samplers share: a walk from noise to latents in few of the trained timesteps, with one call of the
 * model at each.
 */

import { ConfigError } from '../base/errors.js';
import { roundHalfToEven } from '../base/round.js';
import { type Tensor, tidy } from '../torch/index.js';
import type { NoiseConfig, SpacingConfig, TimestepSpacing } from './config.js';

/** Gives standard normal noise of the latents' shape. Called only at the steps that add noise. */
export type NoiseSource = () => Tensor;

/**
 * A walk from noise back to latents. Use: `setTimesteps`, then for each of `timesteps` the model on `scaleModelInput(x, t)` and
 * `x = step(output, t, x, noise)`, from x = noise · `initNoiseSigma` on.
 *
 * Some keep tensors from step to step. Do not call `step` inside a `tidy` that ends before the walk does; the kept
 * ones are released after the last step, and by `using`, after an early end.
 */
export interface Sampler extends Disposable {
  /** What the model is called with, from noise to image; they need not be whole. */
  readonly timesteps: readonly number[];
  /** The standard deviation of the latents at the start. */
  readonly initNoiseSigma: number;
  /**
   * Begins a walk of `steps` steps.
   * @throws ConfigError where the model was not trained on so many timesteps
   */
  setTimesteps(steps: number): void;
  /** How often the model is called for a step; the last step of a method of order 2 has one call. */
  readonly order: 1 | 2;
  /**
   * Begins the walk at the call with this number, the first of a step, instead of at 0, as image-to-image does. `timesteps`
   * stays whole. Of earlier calls nothing is known: methods of several steps begin with lower orders.
   */
  beginAt(call: number): void;
  /** Returns latents of an image with as much noise as the latents have at the call with this number. */
  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor;
  /** What the model takes for the latents x [batch, channels, h, w] at timestep t. */
  scaleModelInput(x: Tensor, t: number): Tensor;
  /** The latents after the step from timestep t; `modelOutput` is what the model made of the scaled x. */
  step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor;
}

/**
 * Returns `steps` of the trained timesteps, the noisiest first (Lin et al. 2023, table 2), rounded as NumPy does.
 * With an offset they may go one or more beyond the trained ones, as in diffusers: see `alphaBarAt` and `sigmaAt`.
 */
export function spacedTimesteps(
  spacing: TimestepSpacing,
  steps: number,
  { num_train_timesteps: total, steps_offset: offset = 0 }: SpacingConfig,
): number[] {
  // NumPy's arange computes its stride as the difference of its first two elements, which decides some halves.
  const trailingStride = total - (total - total / steps);
  const spaced = {
    leading: (i: number) => (steps - 1 - i) * Math.floor(total / steps) + offset,
    linspace: (i: number) => roundHalfToEven(linspace(0, total - 1, steps, steps - 1 - i)),
    trailing: (i: number) => roundHalfToEven(total - i * trailingStride) - 1,
  };
  return Array.from({ length: steps }, (_, i) => spaced[spacing](i));
}

/** @throws ConfigError where the model was not trained on so many timesteps */
export function assertTrained(steps: number, { num_train_timesteps: total }: NoiseConfig): void {
  if (steps > total)
    throw new ConfigError(
      `Expected at most ${total} steps, as many as the model was trained on, but received ${steps}`,
    );
}

/** Returns the i-th of n numbers from `start` to `end`, both included, as NumPy does; `start` where n is 1. */
export function linspace(start: number, end: number, n: number, i: number): number {
  if (n === 1) return start;
  return i === n - 1 ? end : start + i * ((end - start) / (n - 1));
}

/** Returns ᾱ at a timestep: beyond the last trained one it stays, and where all steps are done it is `last`. */
export function alphaBarAt(alphaBars: readonly number[], t: number, last: number): number {
  return t < 0 ? last : (alphaBars[Math.min(t, alphaBars.length - 1)] as number);
}

/** Returns √ᾱ·latents + √(1−ᾱ)·noise. */
export function withNoise(alphaBar: number, latents: Tensor, noise: Tensor): Tensor {
  return tidy(() => latents.mul(Math.sqrt(alphaBar)).add(noise, Math.sqrt(1 - alphaBar)));
}

/** What a model's output says of the latents x = √ᾱ·x0 + √(1−ᾱ)·epsilon. */
export interface Prediction {
  /** The latents without noise. */
  x0: Tensor;
  /** The noise. */
  epsilon: Tensor;
}

/** Formula 12 of DDIM (Song et al. 2020), and appendix D of Salimans & Ho 2022 for velocity. */
export function predict(
  { prediction_type }: NoiseConfig,
  modelOutput: Tensor,
  x: Tensor,
  alphaBar: number,
): Prediction {
  const [signal, rest] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
  if (prediction_type === 'epsilon')
    return { x0: x.add(modelOutput, -rest).mul(1 / signal), epsilon: modelOutput };
  return {
    x0: x.mul(signal).add(modelOutput, -rest),
    epsilon: modelOutput.mul(signal).add(x, rest),
  };
}
