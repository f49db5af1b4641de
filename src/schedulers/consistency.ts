/**
 * @file The samplers of distilled models, which need few steps: LCM (Luo et al., arXiv 2310.04378; diffusers
 * LCMScheduler) and TCD (Zheng et al., arXiv 2402.19159, algorithm 4; diffusers TCDScheduler). They jump to the image
 * without noise and add noise again; their timesteps are some of those that the model was distilled with.
 */
import { ConfigError } from '../base/errors.js';
import { type Tensor, tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import { type ClipConfig, type NoiseConfig, readClip, type SchedulerFile } from './config.js';
import { alphaBarAt, type NoiseSource, predict, type Sampler, withNoise } from './sampler.js';

export interface DistilledConfig extends NoiseConfig {
  /** How many timesteps the model was distilled with. */
  original_inference_steps?: number;
}

export interface LCMConfig extends DistilledConfig, ClipConfig {
  /** By what timesteps are multiplied in the boundary condition. */
  timestep_scaling?: number;
}

/** @throws ConfigError for a key that LCM does not support */
export function readLCM({ config, values }: SchedulerFile): LCMConfig {
  return {
    ...config,
    ...readClip(values),
    original_inference_steps: values.count('original_inference_steps', 1),
    timestep_scaling: values.positive('timestep_scaling'),
  };
}

/** @throws ConfigError for a key that TCD does not support */
export function readTCD({ config, values }: SchedulerFile): DistilledConfig {
  values.only('thresholding', false);
  return { ...config, original_inference_steps: values.count('original_inference_steps', 1) };
}

abstract class DistilledSampler<Config extends DistilledConfig = DistilledConfig> implements Sampler {
  readonly initNoiseSigma = 1;
  readonly order = 1;
  timesteps: readonly number[] = [];
  protected readonly config: Config;
  protected readonly alphaBars: readonly number[];

  constructor(config: Config) {
    this.config = config;
    this.alphaBars = tidy(() => alphasCumprodOf(config).toNumbers());
  }

  setTimesteps(steps: number): void {
    const { original_inference_steps: original = 50, num_train_timesteps: total } = this.config;
    if (original > total)
      throw new ConfigError(
        `Expected at most ${total}, the trained timesteps, for original_inference_steps but received ${original}`,
      );
    if (steps > original)
      throw new ConfigError(
        `Expected at most ${original} steps, the original_inference_steps that the model was distilled with, but received ${steps}`,
      );
    const stride = Math.floor(total / original);
    this.timesteps = Array.from(
      { length: steps },
      (_, i) => (original - Math.floor(i * (original / steps))) * stride - 1,
    );
  }

  beginAt(): void {}

  addNoiseAt(call: number, latents: Tensor, noise: Tensor): Tensor {
    return withNoise(alphaBarAt(this.alphaBars, this.timesteps[call] as number, 1), latents, noise);
  }

  scaleModelInput(x: Tensor): Tensor {
    return x;
  }

  /** The timestep after t; undefined after the last. */
  protected after(t: number): number | undefined {
    return this.timesteps[this.timesteps.indexOf(t) + 1];
  }

  abstract step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor;

  [Symbol.dispose](): void {}
}

export class LCMScheduler extends DistilledSampler<LCMConfig> {
  step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor {
    const { timestep_scaling = 10, clip_sample, clip_sample_range: range = 1 } = this.config;
    const scaled = t * timestep_scaling;
    // The boundary condition of consistency models, with 0.5 as the deviation of the data.
    const skip = 0.25 / (scaled ** 2 + 0.25);
    const out = scaled / Math.sqrt(scaled ** 2 + 0.25);
    const next = this.after(t);
    return tidy(() => {
      const { x0 } = predict(this.config, modelOutput, x, this.alphaBars[t] as number);
      const kept = clip_sample ? x0.clamp(-range, range) : x0;
      const image = kept.mul(out).add(x, skip);
      if (next === undefined) return image;
      const alphaBar = this.alphaBars[next] as number;
      return image.mul(Math.sqrt(alphaBar)).add(noise(), Math.sqrt(1 - alphaBar));
    });
  }
}

export class TCDScheduler extends DistilledSampler {
  readonly #eta: number;

  /** @param eta how far each step goes beyond the next timestep, and comes back with noise: 0 not at all, 1 to none */
  constructor(config: DistilledConfig, eta = 0.3) {
    super(config);
    this.#eta = eta;
  }

  step(modelOutput: Tensor, t: number, x: Tensor, noise: NoiseSource): Tensor {
    const next = this.after(t);
    // In float32, as diffusers does: that decides where the product is whole.
    const beyond = Math.floor(Math.fround(Math.fround(1 - this.#eta) * (next ?? 0)));
    const [alphaBar, alphaBarBeyond] = [t, beyond].map((at) => this.alphaBars[at]) as [number, number];
    return tidy(() => {
      const { x0, epsilon } = predict(this.config, modelOutput, x, alphaBar);
      const moved = x0.mul(Math.sqrt(alphaBarBeyond)).add(epsilon, Math.sqrt(1 - alphaBarBeyond));
      if (next === undefined || this.#eta === 0) return moved;
      const ratio = (this.alphaBars[next] as number) / alphaBarBeyond;
      return moved.mul(Math.sqrt(ratio)).add(noise(), Math.sqrt(1 - ratio));
    });
  }
}
