/** @file Euler's method on the probability flow (Karras et al., arXiv 2206.00364, algorithm 2; diffusers EulerDiscreteScheduler). */
import { type Tensor, tidy } from '../torch/index.js';
import {
  readSigmas,
  readSpacing,
  type SchedulerFile,
  type SigmasConfig,
  type SpacingConfig,
} from './config.js';
import { assertTrained, linspace, type Sampler, spacedTimesteps } from './sampler.js';
import { karrasSigmas, sigmaAt, timestepAt, trainedSigmas } from './sigmas.js';

export interface EulerDiscreteConfig extends SpacingConfig, SigmasConfig {
  /** Whether a model of velocity is called with the timestep, or with ¼·log σ. */
  timestep_type?: 'discrete' | 'continuous';
}

/** @throws ConfigError for a key that Euler does not support */
export function readEulerDiscrete({ config, values }: SchedulerFile): EulerDiscreteConfig {
  values.only('interpolation_type', 'linear');
  return {
    ...config,
    ...readSpacing(values),
    ...readSigmas(values),
    timestep_type: values.oneOf('timestep_type', ['discrete', 'continuous']),
  };
}

export class EulerDiscreteScheduler implements Sampler {
  timesteps: readonly number[] = [];
  readonly #config: EulerDiscreteConfig;
  readonly #trained: readonly number[];
  /** The noise level before each step, and the one after the last. */
  #sigmas: readonly number[] = [];
  #steps = 0;

  constructor(config: EulerDiscreteConfig) {
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
    const config = this.#config;
    assertTrained(steps, config);
    const last = config.num_train_timesteps - 1;
    const even = Array.from({ length: steps }, (_, i) => linspace(0, last, steps, steps - 1 - i));
    const spaced = this.#spacing === 'linspace' ? even : spacedTimesteps(this.#spacing, steps, config);
    const sigmas = spaced.map((t) => sigmaAt(this.#trained, t));
    const levels = config.use_karras_sigmas
      ? karrasSigmas(config, sigmas[0] as number, sigmas.at(-1) as number, steps)
      : sigmas;
    const isContinuous = config.timestep_type === 'continuous' && config.prediction_type === 'v_prediction';
    if (isContinuous) this.timesteps = levels.map((sigma) => 0.25 * Math.log(sigma));
    else if (config.use_karras_sigmas)
      this.timesteps = levels.map((sigma) => timestepAt(this.#trained, sigma));
    else this.timesteps = spaced;
    this.#sigmas = [...levels, config.final_sigmas_type === 'sigma_min' ? (this.#trained[0] as number) : 0];
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
