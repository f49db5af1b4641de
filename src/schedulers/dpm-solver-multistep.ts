/**
 * @file DPM-Solver++, multistep of first or second order (Lu et al., arXiv 2211.01095, algorithm 2; diffusers v0.22
 * DPMSolverMultistepScheduler): 2M, which needs the fewest steps of the samplers here.
 */

import { roundHalfToEven } from '../base/round.js';
import { type Tensor, tidy } from '../torch/index.js';
import type { SchedulerConfig } from './config.js';
import { assertTrained, type Sampler, spacedTimesteps } from './sampler.js';
import { karrasSigmas, sigmaAt, timestepAt, trainedSigmas } from './sigmas.js';

export class DPMSolverMultistepScheduler implements Sampler {
  readonly initNoiseSigma = 1;
  timesteps: readonly number[] = [];
  readonly #config: SchedulerConfig;
  readonly #trained: readonly number[];
  /** The noise level before each step, and the one after the last. */
  #sigmas: readonly number[] = [];
  #steps = 0;
  /** The latents without noise as predicted at the step before; null at the first. */
  #before: Tensor | null = null;

  constructor(config: SchedulerConfig) {
    this.#config = config;
    this.#trained = trainedSigmas(config);
  }

  setTimesteps(steps: number): void {
    this[Symbol.dispose]();
    this.#steps = 0;
    const trained = this.#trained;
    const { use_karras_sigmas, final_sigmas_type } = this.#config;
    if (use_karras_sigmas) {
      assertTrained([], steps, trained.length);
      const levels = karrasSigmas(trained.at(-1) as number, trained[0] as number, steps);
      this.timesteps = levels.map((sigma) => roundHalfToEven(timestepAt(trained, sigma)));
      this.#sigmas = levels;
    } else {
      this.timesteps = this.#spaced(steps);
      this.#sigmas = this.timesteps.map((t) => sigmaAt(trained, t));
    }
    this.#sigmas = [...this.#sigmas, final_sigmas_type === 'zero' ? 0 : (trained[0] as number)];
  }

  /** One timestep more than steps is spaced out, and the least noisy one is where the last step goes. */
  #spaced(steps: number): number[] {
    const spacing = this.#config.timestep_spacing ?? 'linspace';
    if (spacing === 'trailing') return spacedTimesteps(spacing, steps, this.#config);
    return spacedTimesteps(spacing, steps + 1, this.#config).slice(0, -1);
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const i = this.#steps++;
    const total = this.timesteps.length;
    const {
      solver_order,
      solver_type,
      lower_order_final = true,
      euler_at_final,
      final_sigmas_type,
    } = this.#config;
    const endsLow = euler_at_final || final_sigmas_type === 'zero' || (lower_order_final && total < 15);
    const isFirstOrder = solver_order === 1 || i === 0 || (i === total - 1 && endsLow);
    const from = levelOf(this.#sigmas[i] as number);
    const to = levelOf(this.#sigmas[i + 1] as number);
    const before = this.#before;

    const x0 = tidy(() => this.#predictX0(modelOutput, x, from));
    const next = tidy(() => {
      const h = to.lambda - from.lambda;
      const gain = -to.alpha * Math.expm1(-h);
      const firstOrder = x.mul(to.sigma / from.sigma).add(x0, gain);
      // At a step of no length, where h is 0, nothing changes.
      if (isFirstOrder || before === null || h === 0) return firstOrder;
      const hBefore = from.lambda - levelOf(this.#sigmas[i - 1] as number).lambda;
      const slope = x0.sub(before).mul(h / hBefore);
      return firstOrder.add(slope, solver_type === 'heun' ? to.alpha * (Math.expm1(-h) / h + 1) : gain / 2);
    });
    before?.dispose();
    this.#before = x0;
    if (i === total - 1) this[Symbol.dispose]();
    return next;
  }

  #predictX0(modelOutput: Tensor, x: Tensor, { alpha, sigma }: Level): Tensor {
    return this.#config.prediction_type === 'epsilon'
      ? x.add(modelOutput, -sigma).mul(1 / alpha)
      : x.mul(alpha).add(modelOutput, -sigma);
  }

  [Symbol.dispose](): void {
    this.#before?.dispose();
    this.#before = null;
  }
}

/** A noise level in the paper's terms: x = alpha·x0 + sigma·epsilon, and lambda = log(alpha / sigma). */
interface Level {
  alpha: number;
  sigma: number;
  lambda: number;
}

/** @param sigma noise by signal, √((1−ᾱ)/ᾱ) */
function levelOf(sigma: number): Level {
  const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
  return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
}
