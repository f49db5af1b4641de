/**
 * @file DDPM (Ho et al., arXiv 2006.11239; diffusers DDPMScheduler): the noise of training, with the betas of any
 * Stable Diffusion `scheduler_config.json`, and the sampler that walks back by the same chain. The config may name
 * another class, PNDM for SD1.5 say: samplers differ in how they walk back, and all share the betas that the model was
 * trained with.
 */
import { type Device, type Tensor, tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import {
  type ClipConfig,
  readClip,
  readNoiseConfig,
  readSpacing,
  type SchedulerFile,
  type SpacingConfig,
} from './config.js';
import {
  alphaBarAt,
  assertTrained,
  type NoiseSource,
  predict,
  type Sampler,
  spacedTimesteps,
  withNoise,
} from './sampler.js';

export interface DDPMConfig extends SpacingConfig, ClipConfig {
  /** The smaller or the larger of the two variances for which the reverse step is exact. */
  variance_type?: 'fixed_small' | 'fixed_large';
}

/** @throws ConfigError for a key that DDPM does not support */
export function readDDPM({ config, values }: SchedulerFile): DDPMConfig {
  return {
    ...config,
    ...readSpacing(values),
    ...readClip(values),
    variance_type: values.oneOf('variance_type', ['fixed_small', 'fixed_large']),
  };
}

export class DDPMScheduler implements Sampler {
  /** The share of signal variance left after each timestep, float32 [num_train_timesteps]. */
  readonly alphasCumprod: Tensor;
  readonly config: DDPMConfig;
  readonly initNoiseSigma = 1;
  readonly order = 1;
  timesteps: readonly number[] = [];
  readonly #alphaBars: readonly number[];

  /** @param device where the latents will be */
  constructor(config: DDPMConfig, device: Device = 'cpu') {
    this.config = config;
    this.alphasCumprod = tidy(() => alphasCumprodOf(config).to(device));
    this.#alphaBars = this.alphasCumprod.toNumbers();
  }

  /**
   * The scheduler of a model.
   * @param path a `scheduler_config.json`, or the folder that holds one
   * @throws {ConfigError} naming file, key and what is allowed
   */
  static fromConfig(path: string, device: Device = 'cpu'): DDPMScheduler {
    return new DDPMScheduler(readNoiseConfig(path), device);
  }

  get numTrainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  /** √ᾱ·latents + √(1−ᾱ)·noise, each row at its own timestep (int64 [batch]). */
  addNoise(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor {
    return tidy(() => {
      const { signal, rest } = this.#weights(latents, timesteps);
      return signal.mul(latents).add(rest.mul(noise));
    });
  }

  /** √ᾱ·noise − √(1−ᾱ)·latents: what a `v_prediction` model predicts (Salimans & Ho 2022). */
  getVelocity(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor {
    return tidy(() => {
      const { signal, rest } = this.#weights(latents, timesteps);
      return signal.mul(noise).sub(rest.mul(latents));
    });
  }

  /** What the model should predict for these inputs, by the config's `prediction_type`. */
  target(latents: Tensor, noise: Tensor, timesteps: Tensor): Tensor {
    return this.config.prediction_type === 'epsilon' ? noise : this.getVelocity(latents, noise, timesteps);
  }

  /** ᾱ / (1−ᾱ) of the timesteps, their shape. */
  signalToNoise(timesteps: Tensor): Tensor {
    return tidy(() => {
      const signal = this.alphasCumprod.indexSelect(0, timesteps);
      return signal.div(signal.neg().add(1));
    });
  }

  /** √ᾱ and √(1−ᾱ) of the timesteps in the latents' dtype, shaped to multiply them. */
  #weights({ dtype, ndim }: Tensor, timesteps: Tensor): { signal: Tensor; rest: Tensor } {
    const perRow = this.alphasCumprod
      .to(dtype)
      .indexSelect(0, timesteps)
      .reshape(-1, ...Array<number>(ndim - 1).fill(1));
    return { signal: perRow.sqrt(), rest: perRow.neg().add(1).sqrt() };
  }

  setTimesteps(steps: number): void {
    assertTrained(steps, this.config);
    this.timesteps = spacedTimesteps(this.config.timestep_spacing ?? 'leading', steps, this.config);
  }

  beginAt(): void {}

  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor {
    return withNoise(alphaBarAt(this.#alphaBars, this.timesteps[call] as number, 1), latents, noise);
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  /** Formulas 6 and 7 of the paper, over a stretch of timesteps as if it were one. */
  step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor {
    const { clip_sample = true, clip_sample_range: range = 1 } = this.config;
    const next = this.timesteps[this.timesteps.indexOf(t) + 1] ?? -1;
    const alphaBar = alphaBarAt(this.#alphaBars, t, 1);
    const nextAlphaBar = alphaBarAt(this.#alphaBars, next, 1);
    const alpha = alphaBar / nextAlphaBar;
    const small = Math.max(((1 - nextAlphaBar) / (1 - alphaBar)) * (1 - alpha), 1e-20);
    const variance = this.config.variance_type === 'fixed_large' ? 1 - alpha : small;
    return tidy(() => {
      const { x0 } = predict(this.config, modelOutput, x, alphaBar);
      const kept = clip_sample ? x0.clamp(-range, range) : x0;
      const mean = kept
        .mul((Math.sqrt(nextAlphaBar) * (1 - alpha)) / (1 - alphaBar))
        .add(x, (Math.sqrt(alpha) * (1 - nextAlphaBar)) / (1 - alphaBar));
      return t > 0 ? mean.add(noise(), Math.sqrt(variance)) : mean;
    });
  }

  [Symbol.dispose](): void {
    this.alphasCumprod.dispose();
  }
}
