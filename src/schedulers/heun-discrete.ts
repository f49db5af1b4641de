/**
 * @file Heun's method (Karras et al., arXiv 2206.00364, algorithm 1; diffusers HeunDiscreteScheduler): a step as
 * Euler's, then again with the mean of the slopes at both ends.
 */
import { type Tensor, tidy } from '../torch/index.js';
import { type ClipConfig, readClip, type SchedulerFile } from './config.js';
import { History } from './history.js';
import { denoised, slope, TwoCallSampler } from './k-diffusion.js';
import { readSchedule, type ScheduleConfig } from './schedule.js';

export interface HeunDiscreteConfig extends ScheduleConfig, ClipConfig {}

/** @throws ConfigError for a key that Heun does not support */
export function readHeunDiscrete(file: SchedulerFile): HeunDiscreteConfig {
  return { ...readSchedule(file), ...readClip(file.values) };
}

export class HeunDiscreteScheduler extends TwoCallSampler<HeunDiscreteConfig> {
  /** The latents and the slope at the start of a step. */
  readonly #start = new History(2);

  protected secondSigma(i: number): number {
    return this.sigmas[i + 1] as number;
  }

  protected override secondTimestep(i: number, first: readonly number[]): number {
    return first[i + 1] as number;
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const { from, to, isSecond } = this.nextCall();
    const derivative = tidy(() => this.#slope(modelOutput, x, isSecond ? to : from));
    if (isSecond) {
      const [first, start] = [this.#start.at(0), this.#start.at(1)];
      const next = tidy(() => start.add(first.add(derivative).mul(0.5), to - from));
      derivative.dispose();
      this[Symbol.dispose]();
      return next;
    }
    const next = x.add(derivative, to - from);
    if (to > 0) {
      this.#start.push(x.clone());
      this.#start.push(derivative);
    } else derivative.dispose();
    return next;
  }

  #slope(modelOutput: Tensor, x: Tensor, sigma: number): Tensor {
    const { clip_sample, clip_sample_range: range = 1 } = this.config;
    if (!clip_sample) return slope(this.config, modelOutput, x, sigma).clone();
    const x0 = denoised(this.config, modelOutput, x, sigma).clamp(-range, range);
    return x.sub(x0).mul(1 / sigma);
  }

  override [Symbol.dispose](): void {
    this.#start[Symbol.dispose]();
  }
}
