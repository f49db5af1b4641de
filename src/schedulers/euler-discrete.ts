/** @file Euler's method on the probability flow (Karras et al., arXiv 2206.00364, algorithm 2; diffusers EulerDiscreteScheduler). */
import { type Tensor, tidy } from '../torch/index.js';
import type { SchedulerConfig } from './config.js';
import { assertTrained, linspace, type Sampler, spacedTimesteps } from './sampler.js';
import { karrasSigmas, sigmaAt, timestepAt, trainedSigmas } from './sigmas.js';

export class EulerDiscreteScheduler implements Sampler {
  timesteps: readonly number[] = [];
  readonly #config: SchedulerConfig;
  readonly #trained: readonly number[];
  /** The noise level before each step, and 0 after the last. */
  #sigmas: readonly number[] = [];
  #steps = 0;

  constructor(config: SchedulerConfig) {
    this.#config = config;
    this.#trained = trainedSigmas(config);
  }

  get initNoiseSigma(): number {
    const max = this.#sigmas[0] as number;
    // 'leading' does not begin at the last trained timestep, where the signal could be neglected.
    return this.#spacing === 'leading' ? Math.sqrt(max ** 2 + 1) : max;
  }

  get #spacing() {
    return this.#config.timestep_spacing ?? 'linspace';
  }

  setTimesteps(steps: number): void {
    const { num_train_timesteps: total, use_karras_sigmas } = this.#config;
    const even = Array.from({ length: steps }, (_, i) => linspace(0, total - 1, steps, steps - 1 - i));
    assertTrained(even, steps, total);
    const spaced = this.#spacing === 'linspace' ? even : spacedTimesteps(this.#spacing, steps, this.#config);
    const sigmas = spaced.map((t) => sigmaAt(this.#trained, t));
    const levels = use_karras_sigmas
      ? karrasSigmas(sigmas[0] as number, sigmas.at(-1) as number, steps)
      : sigmas;
    this.timesteps = use_karras_sigmas ? levels.map((sigma) => timestepAt(this.#trained, sigma)) : spaced;
    this.#sigmas = [...levels, 0];
    this.#steps = 0;
  }

  scaleModelInput(x: Tensor): Tensor {
    const sigma = this.#sigmas[this.#steps] as number;
    return x.mul(1 / Math.sqrt(sigma ** 2 + 1));
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const [sigma, next] = this.#sigmas.slice(this.#steps, this.#steps + 2) as [number, number];
    this.#steps++;
    if (this.#config.prediction_type === 'epsilon') return tidy(() => x.add(modelOutput, next - sigma));
    // Here x is x0 + σ·epsilon; the slope is (x - x0) / σ.
    const square = sigma ** 2 + 1;
    return tidy(() => {
      const slope = x.mul(sigma / square).add(modelOutput, 1 / Math.sqrt(square));
      return x.add(slope, next - sigma);
    });
  }

  [Symbol.dispose](): void {}
}
