/**
 * @file DEIS with log ρ, multistep of first to third order (Zhang & Chen, arXiv 2204.13902; diffusers
 * DEISMultistepScheduler): the noise as a polynomial of log σ, integrated exactly. It ends at the least level.
 */
import { type Tensor, tidy } from '../torch/index.js';
import type { NoiseConfig, SchedulerFile } from './config.js';
import { History, weightedSum } from './history.js';
import { type Level, readSolver, type SolverConfig, SolverSampler } from './solver.js';

/** @throws ConfigError for a key that DEIS does not support */
export function readDEISMultistep(file: SchedulerFile): SolverConfig {
  // The others are of DPM-Solver and UniPC; diffusers takes DEIS' own for them.
  file.values.oneOf('algorithm_type', ['deis', 'dpmsolver', 'dpmsolver++']);
  file.values.oneOf('solver_type', ['logrho', 'midpoint', 'heun', 'bh1', 'bh2']);
  return readSolver(file);
}

export class DEISMultistepScheduler extends SolverSampler {
  /** The noise as predicted at the newest steps. */
  readonly #noises = new History(3);

  protected override lastSigma(sigmas: readonly number[], trained: readonly number[]): number {
    return (this.config.sigma_spacing === undefined ? trained[0] : sigmas.at(-1)) as number;
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const i = this.steps++;
    const [from, to] = this.levels.slice(i, i + 2) as [Level, Level];
    this.#noises.push(tidy(() => predictNoise(this.config, modelOutput, x, from)));
    const order = this.usableOutputs(i, this.#order(i));
    const logs = this.levels.slice(i + 1 - order, i + 1).reverse();
    const weights = logs.map((_, k) =>
      integralOfLagrange(
        logs.map(({ lambda }) => -lambda),
        k,
        -from.lambda,
        -to.lambda,
      ),
    );
    const next = tidy(() =>
      x.mul(to.alpha / from.alpha).add(weightedSum(this.#noises.all(), weights), to.alpha),
    );
    if (i === this.timesteps.length - 1) this[Symbol.dispose]();
    return next;
  }

  #order(i: number): number {
    const { solver_order = 2, lower_order_final = true } = this.config;
    const left = this.timesteps.length - i;
    return lower_order_final && this.timesteps.length < 15 ? Math.min(solver_order, left) : solver_order;
  }

  [Symbol.dispose](): void {
    this.#noises[Symbol.dispose]();
  }
}

function predictNoise(
  { prediction_type }: NoiseConfig,
  modelOutput: Tensor,
  x: Tensor,
  { alpha, sigma }: Level,
): Tensor {
  return prediction_type === 'epsilon' ? modelOutput.clone() : modelOutput.mul(alpha).add(x, sigma);
}

/**
 * Returns ∫ L(log ρ) dρ between two logarithms of ρ, where L is the polynomial that is 1 at the k-th node and 0 at the
 * others.
 */
function integralOfLagrange(nodes: readonly number[], k: number, from: number, to: number): number {
  const others = nodes.filter((_, j) => j !== k);
  const divisor = others.reduce((product, node) => product * ((nodes[k] as number) - node), 1);
  // ∫ 1, ∫ (u − a), ∫ (u − a)(u − b), each times eᵘ, by parts.
  const antiderivative = (u: number) => {
    const [a = 0, b = 0] = others;
    const product = [1, u - a, (u - a) * (u - b)] as const;
    const derivative = [0, 1, 2 * u - a - b] as const;
    const second = [0, 0, 2] as const;
    const n = others.length as 0 | 1 | 2;
    return Math.exp(u) * (product[n] - derivative[n] + second[n]);
  };
  return (antiderivative(to) - antiderivative(from)) / divisor;
}
