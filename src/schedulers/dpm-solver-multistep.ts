/**
 * @file DPM-Solver++, multistep of first to third order, with noise or without (Lu et al., arXiv 2211.01095, algorithm 2;
 * diffusers DPMSolverMultistepScheduler): 2M, which needs few steps; 2M SDE and 3M SDE, which add noise.
 */
import { type Tensor, tidy } from '../torch/index.js';
import type { SchedulerFile } from './config.js';
import { type Derivatives, type DPMSolverConfig, dpmSolverStep, readDPMSolver } from './dpm-solver-step.js';
import { History } from './history.js';
import type { NoiseSource } from './sampler.js';
import { type Level, predictX0, SolverSampler } from './solver.js';

export interface DPMSolverMultistepConfig extends DPMSolverConfig {
  /** Whether every run ends with a step of first order. */
  euler_at_final?: boolean;
}

/** @throws ConfigError for a key that DPM-Solver++ does not support */
export function readDPMSolverMultistep(file: SchedulerFile): DPMSolverMultistepConfig {
  file.values.only('use_lu_lambdas', false);
  return { ...readDPMSolver(file), euler_at_final: file.values.flag('euler_at_final') };
}

export class DPMSolverMultistepScheduler extends SolverSampler<DPMSolverMultistepConfig> {
  /** The latents without noise as predicted at the newest steps. */
  readonly #predictions = new History(3);

  step(modelOutput: Tensor, _t: number, x: Tensor, noise: NoiseSource): Tensor {
    const i = this.steps++;
    const [from, to] = this.levels.slice(i, i + 2) as [Level, Level];
    this.#predictions.push(tidy(() => predictX0(this.config, modelOutput, x, from)));
    const order = this.usableOutputs(i, this.#order(i));
    const next = tidy(() => dpmSolverStep(this.config, x, from, to, this.#derivatives(i, order), noise));
    if (i === this.timesteps.length - 1) this[Symbol.dispose]();
    return next;
  }

  #order(i: number): number {
    const { solver_order = 2, lower_order_final = true, euler_at_final, final_sigmas_type } = this.config;
    const left = this.timesteps.length - i;
    const isShort = lower_order_final && this.timesteps.length < 15;
    if (left === 1 && (isShort || euler_at_final || final_sigmas_type !== 'sigma_min')) return 1;
    return left === 2 && isShort ? Math.min(solver_order, 2) : solver_order;
  }

  /** By divided differences of the newest predictions (algorithm 2 of the paper, and its third order). */
  #derivatives(i: number, order: number): Derivatives {
    const at = (k: number) => this.#predictions.at(k);
    const lambda = (k: number) => (this.levels[k] as Level).lambda;
    const value = at(0);
    if (order === 1) return { order, value };
    const h = lambda(i + 1) - lambda(i);
    const first = value.sub(at(1)).mul(h / (lambda(i) - lambda(i - 1)));
    if (order === 2) return { order, value, first };
    const [r0, r1] = [(lambda(i) - lambda(i - 1)) / h, (lambda(i - 1) - lambda(i - 2)) / h];
    const change = first.sub(
      at(1)
        .sub(at(2))
        .mul(1 / r1),
    );
    return {
      order,
      value,
      first: first.add(change, r0 / (r0 + r1)),
      second: change.mul(1 / (r0 + r1)),
    };
  }

  [Symbol.dispose](): void {
    this.#predictions[Symbol.dispose]();
  }
}
