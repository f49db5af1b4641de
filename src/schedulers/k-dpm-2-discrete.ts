/**
 * @file DPM2 (Karras et al., arXiv 2206.00364, with the midpoint rule; k-diffusion sample_dpm_2; diffusers
 * KDPM2DiscreteScheduler), and its ancestral form, DPM2 a (KDPM2AncestralDiscreteScheduler): each step first goes to the
 * middle of its levels, and the slope found there carries it the whole way.
 */

import { roundHalfToEven } from '../base/round.js';
import { type Tensor, tidy } from '../torch/index.js';
import { History } from './history.js';
import { ancestral, slope, TwoCallSampler } from './k-diffusion.js';
import type { NoiseSource } from './sampler.js';

export class KDPM2DiscreteScheduler extends TwoCallSampler {
  /** The latents at the start of a step. */
  readonly #start = new History(1);

  override setTimesteps(steps: number): void {
    super.setTimesteps(steps);
    // Rounded are the timesteps of Karras' levels, but not those between them.
    if (this.config.sigma_spacing === 'karras')
      this.timesteps = this.timesteps.map((t, i) => (i % 2 === 0 ? roundHalfToEven(t) : t));
  }

  /** Where the deterministic part of a step goes, and how much noise is added after. */
  protected split(_from: number, to: number): { down: number; up: number } {
    return { down: to, up: 0 };
  }

  protected secondSigma(i: number): number {
    const [from, to] = this.sigmas.slice(i, i + 2) as [number, number];
    return Math.sqrt(from * this.split(from, to).down);
  }

  step(modelOutput: Tensor, _t: number, x: Tensor, noise: NoiseSource): Tensor {
    const sigma = this.sigma;
    const { i, from, to, isSecond } = this.nextCall();
    if (!isSecond) {
      if (to > 0) this.#start.push(x.clone());
      return tidy(() => x.add(slope(this.config, modelOutput, x, sigma), this.secondSigma(i) - from));
    }
    const { down, up } = this.split(from, to);
    const next = tidy(() => {
      const moved = this.#start.at(0).add(slope(this.config, modelOutput, x, sigma), down - from);
      return up > 0 ? moved.add(noise(), up) : moved;
    });
    this[Symbol.dispose]();
    return next;
  }

  override [Symbol.dispose](): void {
    this.#start[Symbol.dispose]();
  }
}

export class KDPM2AncestralDiscreteScheduler extends KDPM2DiscreteScheduler {
  protected override split(from: number, to: number): { down: number; up: number } {
    return ancestral(from, to);
  }
}
