/**
 * @file PNDM without its Runge-Kutta start (Liu et al., arXiv 2202.09778; diffusers PNDMScheduler with
 * skip_prk_steps): a linear multistep method of up to fourth order, which calls the model once more than it has steps.
 */
import { type Tensor, tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import { readSpacing, type SchedulerFile, type SpacingConfig } from './config.js';
import { History, weightedSum } from './history.js';
import { alphaBarAt, assertTrained, type Sampler, spacedTimesteps, withNoise } from './sampler.js';

export interface PNDMConfig extends SpacingConfig {
  /** Whether the last step goes to no noise at all, and not to the noise of timestep 0. */
  set_alpha_to_one?: boolean;
}

/** @throws ConfigError for a key that PNDM does not support */
export function readPNDM({ config, values }: SchedulerFile): PNDMConfig {
  values.only('skip_prk_steps', true);
  return { ...config, ...readSpacing(values), set_alpha_to_one: values.flag('set_alpha_to_one') };
}

/** Adams-Bashforth: the weights of the newest outputs, newest first, by how many there are. */
const WEIGHTS = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]];

export class PNDMScheduler implements Sampler {
  readonly initNoiseSigma = 1;
  readonly order = 1;
  timesteps: readonly number[] = [];
  readonly #config: PNDMConfig;
  readonly #alphaBars: readonly number[];
  #stride = 0;
  /** The number of the first call, and how many are done. */
  #begin = 0;
  #calls = 0;
  readonly #outputs = new History(4);
  /** The latents at the start, from which the second call steps again. */
  readonly #start = new History(1);

  constructor(config: PNDMConfig) {
    this.#config = config;
    this.#alphaBars = tidy(() => alphasCumprodOf(config).toNumbers());
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.#config);
    this[Symbol.dispose]();
    this.beginAt(0);
    this.#stride = Math.floor(this.#config.num_train_timesteps / steps);
    const [first = 0, ...rest] = spacedTimesteps(
      this.#config.timestep_spacing ?? 'leading',
      steps,
      this.#config,
    );
    // The second is walked twice: first to see the model's output there, then with the mean of both outputs.
    this.timesteps = [first, ...rest.slice(0, 1), ...rest];
  }

  /** The second call is taken for a repeated one wherever the walk begins, as in diffusers. */
  beginAt(call: number): void {
    this.#begin = call;
    this.#calls = 0;
  }

  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor {
    return withNoise(alphaBarAt(this.#alphaBars, this.timesteps[call] as number, 1), latents, noise);
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  step(modelOutput: Tensor, t: number, x: Tensor): Tensor {
    const call = this.#calls++;
    let next: Tensor;
    if (call === 0) {
      this.#outputs.push(modelOutput.clone());
      this.#start.push(x.clone());
      next = this.#walk(x, modelOutput, t, t - this.#stride);
    } else if (call === 1) {
      const [first, start] = [this.#outputs.at(0), this.#start.at(0)];
      next = tidy(() => this.#walk(start, modelOutput.add(first).mul(0.5), t + this.#stride, t));
      this.#start[Symbol.dispose]();
    } else {
      this.#outputs.push(modelOutput.clone());
      const weights = WEIGHTS[this.#outputs.length - 1] as number[];
      next = tidy(() => this.#walk(x, weightedSum(this.#outputs.all(), weights), t, t - this.#stride));
    }
    if (call === this.timesteps.length - 1 - this.#begin) this[Symbol.dispose]();
    return next;
  }

  /** Formula 9 of the paper: from timestep t to timestep `to`. */
  #walk(x: Tensor, output: Tensor, t: number, to: number): Tensor {
    const last = this.#config.set_alpha_to_one ? 1 : (this.#alphaBars[0] as number);
    const a = alphaBarAt(this.#alphaBars, t, last);
    const b = alphaBarAt(this.#alphaBars, to, last);
    return tidy(() => {
      const isVelocity = this.#config.prediction_type === 'v_prediction';
      const epsilon = isVelocity ? output.mul(Math.sqrt(a)).add(x, Math.sqrt(1 - a)) : output;
      const divisor = a * Math.sqrt(1 - b) + Math.sqrt(a * (1 - a) * b);
      return x.mul(Math.sqrt(b / a)).add(epsilon, -(b - a) / divisor);
    });
  }

  [Symbol.dispose](): void {
    this.#outputs[Symbol.dispose]();
    this.#start[Symbol.dispose]();
  }
}
