/** @file DDIM (Song et al., arXiv 2010.02502; diffusers DDIMScheduler): a step of first order, without noise. */
import { type Tensor, tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import { type ClipConfig, readClip, readSpacing, type SchedulerFile, type SpacingConfig } from './config.js';
import {
  alphaBarAt,
  assertTrained,
  type NoiseSource,
  predict,
  type Sampler,
  spacedTimesteps,
  withNoise,
} from './sampler.js';

export interface DDIMConfig extends SpacingConfig, ClipConfig {
  /** Whether the last step goes to no noise at all, and not to the noise of timestep 0. */
  set_alpha_to_one?: boolean;
}

/** @throws ConfigError for a key that DDIM does not support */
export function readDDIM({ config, values }: SchedulerFile): DDIMConfig {
  return {
    ...config,
    ...readSpacing(values),
    ...readClip(values),
    set_alpha_to_one: values.flag('set_alpha_to_one'),
  };
}

export class DDIMScheduler implements Sampler {
  readonly initNoiseSigma = 1;
  readonly order = 1;
  timesteps: readonly number[] = [];
  readonly #config: DDIMConfig;
  readonly #eta: number;
  readonly #alphaBars: readonly number[];

  /** @param eta how much noise each step adds: 0 none, 1 as much as DDPM (formula 16) */
  constructor(config: DDIMConfig, eta = 0) {
    this.#config = config;
    this.#eta = eta;
    this.#alphaBars = tidy(() => alphasCumprodOf(config).toNumbers());
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.#config);
    this.timesteps = spacedTimesteps(this.#config.timestep_spacing ?? 'leading', steps, this.#config);
  }

  beginAt(): void {}

  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor {
    return withNoise(alphaBarAt(this.#alphaBars, this.timesteps[call] as number, 1), latents, noise);
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor {
    const config = this.#config;
    const next = t - Math.floor(config.num_train_timesteps / this.timesteps.length);
    const last = (config.set_alpha_to_one ?? true) ? 1 : (this.#alphaBars[0] as number);
    const alphaBar = alphaBarAt(this.#alphaBars, t, last);
    const nextAlphaBar = alphaBarAt(this.#alphaBars, next, last);
    const variance = ((1 - nextAlphaBar) / (1 - alphaBar)) * (1 - alphaBar / nextAlphaBar);
    const sigma = this.#eta * Math.sqrt(variance);
    return tidy(() => {
      const { x0, epsilon } = predict(config, modelOutput, x, alphaBar);
      const range = config.clip_sample_range ?? 1;
      const kept = (config.clip_sample ?? true) ? x0.clamp(-range, range) : x0;
      const moved = kept.mul(Math.sqrt(nextAlphaBar)).add(epsilon, Math.sqrt(1 - nextAlphaBar - sigma ** 2));
      return sigma > 0 ? moved.add(noise(), sigma) : moved;
    });
  }

  [Symbol.dispose](): void {}
}
