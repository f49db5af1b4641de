/**
 * @file DPM-Solver++, singlestep (Lu et al., arXiv 2211.01095, algorithm 1; diffusers DPMSolverSinglestepScheduler): the
 * steps go in blocks of the method's order, and each step of a block starts again where the block did.
 */
import { type Tensor, tidy } from '../torch/index.js';
import type { SchedulerFile } from './config.js';
import { type Derivatives, type DPMSolverConfig, dpmSolverStep, readDPMSolver } from './dpm-solver-step.js';
import { History } from './history.js';
import type { NoiseSource } from './sampler.js';
import { type Level, predictX0, SolverSampler } from './solver.js';

/**
 * Reads its keys; of the spacings of timesteps it knows linspace alone, as in diffusers.
 * @throws ConfigError for a key that DPM-Solver++ does not support
 */
export function readDPMSolverSinglestep(file: SchedulerFile): DPMSolverConfig {
  return { ...readDPMSolver(file), timestep_spacing: 'linspace', steps_offset: 0 };
}

export class DPMSolverSinglestepScheduler extends SolverSampler<DPMSolverConfig> {
  /** The latents without noise as predicted in this block. */
  readonly #predictions = new History(3);
  /** The latents at the start of the block. */
  readonly #start = new History(1);
  #orders: readonly number[] = [];

  override setTimesteps(steps: number): void {
    super.setTimesteps(steps);
    this.#orders = ordersOf(this.config, steps);
  }

  step(modelOutput: Tensor, _t: number, x: Tensor, noise: NoiseSource): Tensor {
    const i = this.steps++;
    // Begun within a block, it goes on with the steps that it has seen.
    const order = Math.min(this.#orders[i] as number, i - this.begin + 1);
    if (order === 1) {
      this[Symbol.dispose]();
      this.#start.push(x.clone());
    }
    this.#predictions.push(tidy(() => predictX0(this.config, modelOutput, x, this.levels[i] as Level)));
    const [from, to] = [this.levels[i + 1 - order], this.levels[i + 1]] as [Level, Level];
    const usable = this.usableOutputs(i, order);
    const next = tidy(() =>
      dpmSolverStep(this.config, this.#start.at(0), from, to, this.#derivatives(i, order, usable), noise),
    );
    if (i === this.timesteps.length - 1) this[Symbol.dispose]();
    return next;
  }

  /** At the start of the block, from the predictions of all its steps. */
  #derivatives(i: number, order: number, usable: number): Derivatives {
    const lambda = (k: number) => (this.levels[k] as Level).lambda;
    const value = this.#predictions.at(order - 1);
    if (usable < order || order === 1) return { order: 1, value };
    const start = i + 1 - order;
    const h = lambda(i + 1) - lambda(start);
    /** The divided difference over the block's first k steps, by h. */
    const slope = (k: number) => {
      const r = (lambda(start + k) - lambda(start)) / h;
      return {
        r,
        slope: this.#predictions
          .at(order - 1 - k)
          .sub(value)
          .mul(1 / r),
      };
    };
    if (order === 2) return { order, value, first: slope(1).slope };
    const [near, far] = [slope(1), slope(2)];
    if (this.config.solver_type !== 'heun') return { order, value, first: far.slope };
    return {
      order,
      value,
      first: near.slope
        .mul(far.r)
        .add(far.slope, -near.r)
        .mul(1 / (far.r - near.r)),
      second: far.slope.sub(near.slope).mul(2 / (far.r - near.r)),
    };
  }

  [Symbol.dispose](): void {
    this.#predictions[Symbol.dispose]();
    this.#start[Symbol.dispose]();
  }
}

/** The order of each step within its block: 1, 2, 1, 2, … for a method of second order. */
function ordersOf(config: DPMSolverConfig, steps: number): number[] {
  const { solver_order = 2, lower_order_final, final_sigmas_type } = config;
  const orders = Array.from({ length: steps }, (_, i) => (i % solver_order) + 1);
  const endsAtZero = final_sigmas_type !== 'sigma_min';
  const isWhole = steps % solver_order === 0;
  if (isWhole && (lower_order_final || endsAtZero)) {
    if (solver_order === 3) orders.splice(-2, 2, 2, 1);
    else orders[steps - 1] = 1;
  }
  if (endsAtZero) orders[steps - 1] = 1;
  return orders;
}
