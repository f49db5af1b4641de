/**
 * @file UniPC, multistep (Zhao et al., arXiv 2302.04867, algorithms 5 to 8, with B(h); diffusers
 * UniPCMultistepScheduler): each output of the model first corrects the step that led to it, then predicts the next.
 */
import { type Tensor, tidy } from '../torch/index.js';
import type { SchedulerFile } from './config.js';
import { History, weightedSum } from './history.js';
import { type Level, predictX0, readSolver, type SolverConfig, SolverSampler } from './solver.js';

export interface UniPCMultistepConfig extends SolverConfig {
  solver_type?: 'bh1' | 'bh2';
}

/** @throws ConfigError for a key that UniPC does not support */
export function readUniPCMultistep(file: SchedulerFile): UniPCMultistepConfig {
  const { values } = file;
  values.only('predict_x0', true);
  if (values.get('solver_p') !== undefined) values.fail('solver_p', 'null');
  const disabled = values.get('disable_corrector') ?? [];
  if (!Array.isArray(disabled) || disabled.length > 0) values.fail('disable_corrector', '[]');
  // The others are of DPM-Solver and DEIS; diffusers takes bh2 for them.
  const solver = values.oneOf('solver_type', ['bh1', 'bh2', 'midpoint', 'heun', 'logrho']);
  return { ...readSolver(file), solver_type: solver === 'bh1' ? 'bh1' : 'bh2' };
}

export class UniPCMultistepScheduler extends SolverSampler<UniPCMultistepConfig> {
  /** The latents without noise as predicted at the newest steps. */
  readonly #predictions = new History(3);
  /** The corrected latents at the start of the last step. */
  readonly #start = new History(1);
  /** Of the last step. */
  #order = 1;

  protected override lastSigma(sigmas: readonly number[], trained: readonly number[]): number {
    if (this.config.final_sigmas_type !== 'sigma_min') return 0;
    return (this.config.sigma_spacing === undefined ? trained[0] : sigmas.at(-1)) as number;
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const i = this.steps++;
    const { solver_order = 2, lower_order_final = true } = this.config;
    const left = this.timesteps.length - i;
    const prediction = tidy(() => predictX0(this.config, modelOutput, x, this.levels[i] as Level));
    const corrected = i === this.begin ? x.clone() : tidy(() => this.#walk(i - 1, this.#order, prediction));
    this.#predictions.push(prediction);
    this.#start.push(corrected);
    const order = lower_order_final ? Math.min(solver_order, left) : solver_order;
    // Nothing but the newest output counts on the way to no noise, where λ is infinite.
    this.#order = this.levels[i + 1]?.sigma === 0 ? 1 : this.usableOutputs(i, order);
    const next = tidy(() => this.#walk(i, this.#order));
    if (left === 1) this[Symbol.dispose]();
    return next;
  }

  /** The step from level i to the next, from the outputs at i and before, and for the corrector that at the next level. */
  #walk(i: number, order: number, output?: Tensor): Tensor {
    const [from, to] = this.levels.slice(i, i + 2) as [Level, Level];
    const h = to.lambda - from.lambda;
    const [newest, x] = [this.#predictions.at(0), this.#start.at(0)];
    // At a step of no length nothing changes.
    if (h === 0) return x.clone();
    const scale = this.config.solver_type === 'bh1' ? -h : Math.expm1(-h);
    const straight = x.mul(to.sigma / from.sigma).add(newest, -to.alpha * Math.expm1(-h));
    const earlier = Array.from({ length: order - 1 }, (_, k) => k + 1);
    const ratios = earlier.map((k) => ((this.levels[i - k] as Level).lambda - from.lambda) / h);
    const slopes = ratios.map((ratio, k) =>
      this.#predictions
        .at(k + 1)
        .sub(newest)
        .mul(1 / ratio),
    );
    if (output) slopes.push(output.sub(newest));
    if (slopes.length === 0) return straight;
    const weights = weightsOf(output ? [...ratios, 1] : ratios, h, scale);
    return straight.add(weightedSum(slopes, weights), -to.alpha * scale);
  }

  [Symbol.dispose](): void {
    this.#predictions[Symbol.dispose]();
    this.#start[Symbol.dispose]();
  }
}

/** Formula 9 of the paper: the weights of the slopes at these ratios, with which the step is exact to their order. */
function weightsOf(ratios: readonly number[], h: number, scale: number): number[] {
  // As the authors' code does: with one slope the formula is nearly ½.
  if (ratios.length === 1) return [0.5];
  let [phi, factorial] = [Math.expm1(-h) / -h - 1, 1];
  const rows = ratios.map((_, power) => {
    const row = [...ratios.map((ratio) => ratio ** power), (phi * factorial) / scale];
    factorial *= power + 2;
    phi = phi / -h - 1 / factorial;
    return row;
  });
  return solve(rows);
}

/** Solves linear equations, each with its right side last, by elimination. */
function solve(rows: number[][]): number[] {
  for (const [i, pivot] of rows.entries())
    for (const row of rows.slice(i + 1)) {
      const factor = (row[i] as number) / (pivot[i] as number);
      for (const [j, value] of pivot.entries()) row[j] = (row[j] as number) - factor * value;
    }
  const solution: number[] = [];
  for (const [i, row] of [...rows.entries()].reverse()) {
    const known = solution.reduce((sum, value, j) => sum + value * (row[i + 1 + j] as number), 0);
    solution.unshift(((row.at(-1) as number) - known) / (row[i] as number));
  }
  return solution;
}
