/**
 * @file DPM++ SDE (Lu et al., arXiv 2211.01095, with noise; k-diffusion sample_dpmpp_sde; diffusers
 * DPMSolverSDEScheduler): two ancestral steps of the exponential integrator, to the middle of the levels, and from the
 * start all the way. The draws of both are independent, as with k-diffusion's default_noise_sampler; diffusers' own
 * are increments of one Brownian path.
 */
import { type Tensor, tidy } from '../torch/index.js';
import { History } from './history.js';
import { ancestral, denoised, TwoCallSampler } from './k-diffusion.js';
import type { NoiseSource } from './sampler.js';

export class DPMSolverSDEScheduler extends TwoCallSampler {
  /** The latents at the start of a step. */
  readonly #start = new History(1);

  protected secondSigma(i: number): number {
    return Math.sqrt((this.sigmas[i] as number) * (this.sigmas[i + 1] as number));
  }

  step(modelOutput: Tensor, _t: number, x: Tensor, noise: NoiseSource): Tensor {
    const sigma = this.sigma;
    const { i, from, to, isSecond } = this.nextCall();
    if (to === 0) return tidy(() => denoised(this.config, modelOutput, x, sigma));
    if (!isSecond) this.#start.push(x.clone());
    const { down, up } = ancestral(from, isSecond ? to : this.secondSigma(i));
    const ratio = down / from;
    const next = tidy(() => {
      const x0 = denoised(this.config, modelOutput, x, sigma);
      return this.#start
        .at(0)
        .mul(ratio)
        .add(x0, 1 - ratio)
        .add(noise(), up);
    });
    if (isSecond) this[Symbol.dispose]();
    return next;
  }

  override [Symbol.dispose](): void {
    this.#start[Symbol.dispose]();
  }
}
