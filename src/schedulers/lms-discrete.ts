/**
 * @file LMS (k-diffusion sample_lms; diffusers LMSDiscreteScheduler): a linear multistep method of up to fourth order,
 * Adams-Bashforth with the true noise levels.
 */
import { type Tensor, tidy } from '../torch/index.js';
import { History, weightedSum } from './history.js';
import { KDiffusionSampler, slope } from './k-diffusion.js';

const MAX_ORDER = 4;

export class LMSDiscreteScheduler extends KDiffusionSampler {
  readonly #slopes = new History(MAX_ORDER);

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const call = this.calls++;
    const [from, to] = this.sigmas.slice(call, call + 2) as [number, number];
    this.#slopes.push(tidy(() => slope(this.config, modelOutput, x, from).clone()));
    const newestFirst = this.sigmas.slice(Math.max(call + 1 - MAX_ORDER, this.begin), call + 1).reverse();
    // Levels beyond the trained ones are all the same; no polynomial goes through two slopes at one level.
    const same = newestFirst.findIndex((sigma, i) => i > 0 && sigma === newestFirst[i - 1]);
    const nodes = same === -1 ? newestFirst : newestFirst.slice(0, same);
    const weights = nodes.map((_, k) => integralOfLagrange(nodes, k, from, to));
    const next = tidy(() => x.add(weightedSum(this.#slopes.all(), weights)));
    if (call === this.timesteps.length - 1) this[Symbol.dispose]();
    return next;
  }

  override [Symbol.dispose](): void {
    this.#slopes[Symbol.dispose]();
  }
}

/** The integral of the polynomial that is 1 at the k-th node and 0 at the others; Simpson's rule is exact up to cubes. */
function integralOfLagrange(nodes: readonly number[], k: number, from: number, to: number): number {
  const value = (x: number) =>
    nodes.reduce((product, node, j) => {
      const distance = (nodes[k] as number) - node;
      return j === k ? product : (product * (x - node)) / distance;
    }, 1);
  return ((to - from) / 6) * (value(from) + 4 * value((from + to) / 2) + value(to));
}
