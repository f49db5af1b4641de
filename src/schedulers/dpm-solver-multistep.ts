/**
 * @file DPM-Solver++, multistep of first or second order (Lu et al., arXiv 2211.01095, algorithm 2; diffusers
 * DPMSolverMultistepScheduler): 2M, which needs the fewest steps of the samplers here.
 */
import { type Tensor, tidy } from '../torch/index.js';
import {
  readSigmas,
  readSpacing,
  type SchedulerFile,
  type SigmasConfig,
  type SpacingConfig,
} from './config.js';
import { assertTrained, roundHalfToEven, type Sampler, spacedTimesteps } from './sampler.js';
import { karrasSigmas, sigmaAt, timestepAt, trainedSigmas } from './sigmas.js';

export interface DPMSolverMultistepConfig extends SpacingConfig, SigmasConfig {
  /** The order of the method. */
  solver_order?: 1 | 2;
  solver_type?: 'midpoint' | 'heun';
  /** Whether runs of less than 15 steps end with a step of first order. */
  lower_order_final?: boolean;
  /** Whether every run does. */
  euler_at_final?: boolean;
}

/** @throws ConfigError for a key that DPM-Solver++ does not support */
export function readDPMSolverMultistep({ config, values }: SchedulerFile): DPMSolverMultistepConfig {
  for (const key of ['thresholding', 'use_lu_lambdas', 'use_flow_sigmas']) values.only(key, false);
  values.only('lambda_min_clipped', Number.NEGATIVE_INFINITY);
  values.only('algorithm_type', 'dpmsolver++');
  // The last three are of other classes (DEIS, UniPC); diffusers takes the midpoint method for them.
  const solver = values.oneOf('solver_type', ['midpoint', 'heun', 'logrho', 'bh1', 'bh2']);
  return {
    ...config,
    ...readSpacing(values),
    ...readSigmas(values),
    solver_order: values.oneOf('solver_order', [1, 2]),
    solver_type: solver === 'heun' ? 'heun' : 'midpoint',
    lower_order_final: values.flag('lower_order_final'),
    euler_at_final: values.flag('euler_at_final'),
  };
}

export class DPMSolverMultistepScheduler implements Sampler {
  readonly initNoiseSigma = 1;
  timesteps: readonly number[] = [];
  readonly #config: DPMSolverMultistepConfig;
  readonly #trained: readonly number[];
  /** The noise level before each step, and the one after the last. */
  #sigmas: readonly number[] = [];
  #steps = 0;
  /** The latents without noise as predicted at the step before; null at the first. */
  #before: Tensor | null = null;

  constructor(config: DPMSolverMultistepConfig) {
    this.#config = config;
    this.#trained = trainedSigmas(config);
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.#config);
    this[Symbol.dispose]();
    this.#steps = 0;
    const trained = this.#trained;
    const { use_karras_sigmas, final_sigmas_type } = this.#config;
    if (use_karras_sigmas) {
      const levels = karrasSigmas(this.#config, trained.at(-1) as number, trained[0] as number, steps);
      this.timesteps = levels.map((sigma) => roundHalfToEven(timestepAt(trained, sigma)));
      this.#sigmas = levels;
    } else {
      this.timesteps = this.#spaced(steps);
      this.#sigmas = this.timesteps.map((t) => sigmaAt(trained, t));
    }
    this.#sigmas = [...this.#sigmas, final_sigmas_type === 'sigma_min' ? (trained[0] as number) : 0];
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
    const endsLow = euler_at_final || final_sigmas_type !== 'sigma_min' || (lower_order_final && total < 15);
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
