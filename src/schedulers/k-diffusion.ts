/**
 * @file What the samplers of k-diffusion share (Karras et al., arXiv 2206.00364, section 4): they walk on
 * x = x0 + σ·epsilon, whose slope dx/dσ is the noise, and the model is called with x scaled back to unit variance.
 */
import type { Tensor } from '../torch/index.js';
import type { NoiseConfig } from './config.js';
import { assertTrained, type NoiseSource, type Sampler } from './sampler.js';
import { kDiffusionSchedule, type ScheduleConfig } from './schedule.js';
import { timestepAt, trainedSigmas } from './sigmas.js';

export abstract class KDiffusionSampler<Config extends ScheduleConfig = ScheduleConfig> implements Sampler {
  timesteps: readonly number[] = [];
  protected readonly config: Config;
  /** σ of every trained timestep. */
  protected readonly trained: readonly number[];
  /** The noise level before each step, and the one after the last. */
  protected sigmas: readonly number[] = [];
  /** The number of the next call. */
  protected calls = 0;
  /** The number of the first call. */
  protected begin = 0;

  constructor(config: Config) {
    this.config = config;
    this.trained = trainedSigmas(config);
  }

  get initNoiseSigma(): number {
    // In float32 as diffusers, so that the first latents are equal to the bit.
    const max = Math.fround(this.sigmas[0] as number);
    // 'leading' does not begin at the last trained timestep, where the signal could be neglected.
    return this.config.timestep_spacing === 'leading'
      ? Math.fround(Math.sqrt(Math.fround(Math.fround(max ** 2) + 1)))
      : max;
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.config);
    this[Symbol.dispose]();
    const { timesteps, sigmas } = kDiffusionSchedule(this.config, this.trained, steps);
    this.timesteps = timesteps;
    this.sigmas = [...sigmas, 0];
    this.beginAt(0);
  }

  get order(): 1 | 2 {
    return 1;
  }

  beginAt(call: number): void {
    this.begin = call;
    this.calls = call;
  }

  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor {
    // In the middle of a step it is the level that the step goes to, as in diffusers.
    return latents.add(noise, this.sigmas[Math.ceil(call / this.order)]);
  }

  /** The noise level of the latents in the next call. */
  protected get sigma(): number {
    return this.sigmas[this.calls] as number;
  }

  scaleModelInput(x: Tensor): Tensor {
    return x.mul(1 / Math.sqrt(this.sigma ** 2 + 1));
  }

  abstract step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor;

  [Symbol.dispose](): void {}
}

/** A sampler that calls the model twice a step, but once in the last, which goes to no noise. */
export abstract class TwoCallSampler<
  Config extends ScheduleConfig = ScheduleConfig,
> extends KDiffusionSampler<Config> {
  readonly #logs = this.trained.map(Math.log);

  override get order(): 1 | 2 {
    return 2;
  }

  override setTimesteps(steps: number): void {
    super.setTimesteps(steps);
    const first = this.timesteps;
    this.timesteps = first.flatMap((t, i) => (i === 0 ? [t] : [this.secondTimestep(i - 1, first), t]));
  }

  /** The level at which the model is called again in the i-th step. */
  protected abstract secondSigma(i: number): number;

  /** @param _first the timesteps of all first calls */
  protected secondTimestep(i: number, _first: readonly number[]): number {
    return timestepAt(this.#logs, this.secondSigma(i));
  }

  protected override get sigma(): number {
    const i = Math.floor(this.calls / 2);
    return this.calls % 2 === 0 ? (this.sigmas[i] as number) : this.secondSigma(i);
  }

  /** A step's first level, the one that it goes to, and whether this is its second call; counts the call. */
  protected nextCall(): { i: number; from: number; to: number; isSecond: boolean } {
    const call = this.calls++;
    const i = Math.floor(call / 2);
    const [from, to] = this.sigmas.slice(i, i + 2) as [number, number];
    return { i, from, to, isSecond: call % 2 === 1 };
  }
}

/** Returns dx/dσ at latents x of level σ: the noise in them. For a model of noise it is the model's output itself. */
export function slope(
  { prediction_type }: NoiseConfig,
  modelOutput: Tensor,
  x: Tensor,
  sigma: number,
): Tensor {
  if (prediction_type === 'epsilon') return modelOutput;
  const square = sigma ** 2 + 1;
  return x.mul(sigma / square).add(modelOutput, 1 / Math.sqrt(square));
}

/** Returns the latents without noise, x − σ·dx/dσ. */
export function denoised(
  { prediction_type }: NoiseConfig,
  modelOutput: Tensor,
  x: Tensor,
  sigma: number,
): Tensor {
  if (prediction_type === 'epsilon') return x.add(modelOutput, -sigma);
  const square = sigma ** 2 + 1;
  return x.mul(1 / square).add(modelOutput, -sigma / Math.sqrt(square));
}

/** How an ancestral step from one level to the next is split: down without noise, then up again with new noise. */
export function ancestral(from: number, to: number): { down: number; up: number } {
  const up = Math.min(to, Math.sqrt((to ** 2 * (from ** 2 - to ** 2)) / from ** 2));
  return { down: Math.sqrt(to ** 2 - up ** 2), up };
}
