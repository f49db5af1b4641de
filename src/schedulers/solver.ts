/**
 * @file What DPM-Solver++, DEIS and UniPC share: they walk on x = alpha·x0 + sigma·epsilon, in steps that are exact for
 * the linear part of the probability flow (Lu et al., arXiv 2206.00927, section 3).
 */
import { type Tensor, tidy } from '../torch/index.js';
import type { NoiseConfig, SchedulerFile } from './config.js';
import { assertTrained, type NoiseSource, type Sampler } from './sampler.js';
import { readSchedule, type ScheduleConfig, solverSchedule } from './schedule.js';
import { trainedSigmas } from './sigmas.js';

export interface SolverConfig extends ScheduleConfig {
  /** The order of the method. */
  solver_order?: 1 | 2 | 3;
  /** Whether the last steps are of lower order, in DPM-Solver++ and DEIS where there are less than 15. */
  lower_order_final?: boolean;
}

/** @throws ConfigError for a key that none of these solvers supports */
export function readSolver(file: SchedulerFile): SolverConfig {
  const { values } = file;
  // Thresholding is for models of pixels; flow sigmas are for models of flow matching.
  for (const key of ['thresholding', 'use_flow_sigmas']) values.only(key, false);
  return {
    ...readSchedule(file),
    solver_order: values.oneOf('solver_order', [1, 2, 3]),
    lower_order_final: values.flag('lower_order_final'),
  };
}

/** A noise level in the paper's terms: x = alpha·x0 + sigma·epsilon, and lambda = log(alpha / sigma). */
export interface Level {
  alpha: number;
  sigma: number;
  lambda: number;
}

/** @param sigma noise by signal, √((1−ᾱ)/ᾱ) */
function levelOf(sigma: number): Level {
  const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
  return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
}

/** Returns the latents without noise. */
export function predictX0(
  { prediction_type }: NoiseConfig,
  modelOutput: Tensor,
  x: Tensor,
  { alpha, sigma }: Level,
): Tensor {
  return prediction_type === 'epsilon'
    ? x.add(modelOutput, -sigma).mul(1 / alpha)
    : x.mul(alpha).add(modelOutput, -sigma);
}

export abstract class SolverSampler<Config extends SolverConfig = SolverConfig> implements Sampler {
  readonly initNoiseSigma = 1;
  timesteps: readonly number[] = [];
  protected readonly config: Config;
  /** The noise level before each step, and the one after the last. */
  protected levels: readonly Level[] = [];
  /** The number of the next step. */
  protected steps = 0;
  /** The number of the first one. */
  protected begin = 0;
  readonly #trained: readonly number[];

  constructor(config: Config) {
    this.config = config;
    this.#trained = trainedSigmas(config);
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.config);
    this[Symbol.dispose]();
    const { timesteps, sigmas } = solverSchedule(this.config, this.#trained, steps);
    this.timesteps = timesteps;
    this.levels = [...sigmas, this.lastSigma(sigmas, this.#trained)].map(levelOf);
    this.beginAt(0);
  }

  readonly order = 1;

  beginAt(step: number): void {
    this.begin = step;
    this.steps = step;
  }

  addNoiseAt(step: number, latents: Tensor, noise: Tensor): Tensor {
    const { alpha, sigma } = this.levels[step] as Level;
    return tidy(() => latents.mul(alpha).add(noise, sigma));
  }

  /** The level that the last step goes to. */
  protected lastSigma(_sigmas: readonly number[], trained: readonly number[]): number {
    return this.config.final_sigmas_type === 'sigma_min' ? (trained[0] as number) : 0;
  }

  /** How many of the newest outputs can be used in step i: levels that are the same, at most timesteps, are one. */
  protected usableOutputs(i: number, order: number): number {
    let count = 1;
    while (count < order && this.#differ(i - count + 1, i - count)) count++;
    return count;
  }

  #differ(i: number, j: number): boolean {
    return j >= this.begin && this.levels[i]?.lambda !== this.levels[j]?.lambda;
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  abstract step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor;

  abstract [Symbol.dispose](): void;
}
