/**
 * @file The noise of training: DDPM (Ho et al. 2020) with the betas of any Stable Diffusion
 * `scheduler_config.json`. The config may name another class, PNDM for SD1.5 say: samplers differ in how
 * they walk back, and all share the betas that the model was trained with.
 * Numbers are computed in float32 in diffusers' order (DDPMScheduler), so that they agree to the last bits.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../errors.js';
import { cat, type Device, linspace, ones, type Tensor, tensor, tidy } from '../torch/index.js';

const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const;
const PREDICTION_TYPES = ['epsilon', 'v_prediction'] as const;

/** What training needs of a `scheduler_config.json`. */
export interface DDPMConfig {
  num_train_timesteps: number;
  beta_start: number;
  beta_end: number;
  beta_schedule: (typeof BETA_SCHEDULES)[number];
  /** Betas given one by one, instead of start, end and schedule. */
  trained_betas: number[] | null;
  prediction_type: (typeof PREDICTION_TYPES)[number];
  /** Whether the last step is pure noise (Lin et al. 2023, algorithm 1). */
  rescale_betas_zero_snr: boolean;
}

export class DDPMScheduler {
  /** The share of signal variance left after each timestep, float32 [num_train_timesteps]. */
  readonly alphasCumprod: Tensor;
  readonly config: DDPMConfig;

  /** @param device where the latents will be */
  constructor(config: DDPMConfig, device: Device = 'cpu') {
    this.config = config;
    this.alphasCumprod = tidy(() => alphasCumprod(makeBetas(config)).to(device));
  }

  /**
   * The scheduler of a model.
   * @param path a `scheduler_config.json`, or the folder that holds one
   * @throws {ConfigError} naming file, key and what is allowed
   */
  static fromConfig(path: string, device: Device = 'cpu'): DDPMScheduler {
    return new DDPMScheduler(readConfig(path), device);
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

  /** √ᾱ and √(1−ᾱ) of the timesteps in the latents' dtype, shaped to multiply them. */
  #weights({ dtype, ndim }: Tensor, timesteps: Tensor): { signal: Tensor; rest: Tensor } {
    const perRow = this.alphasCumprod
      .to(dtype)
      .indexSelect(0, timesteps)
      .reshape(-1, ...Array<number>(ndim - 1).fill(1));
    return { signal: perRow.sqrt(), rest: perRow.neg().add(1).sqrt() };
  }
}

function makeBetas(config: DDPMConfig): Tensor {
  const betas = config.trained_betas
    ? tensor(config.trained_betas, [config.trained_betas.length])
    : scheduledBetas(config);
  return config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betas) : betas;
}

function scheduledBetas({
  beta_schedule,
  beta_start,
  beta_end,
  num_train_timesteps: steps,
}: DDPMConfig): Tensor {
  switch (beta_schedule) {
    case 'linear':
      return linspace(beta_start, beta_end, steps);
    case 'scaled_linear':
      return linspace(beta_start ** 0.5, beta_end ** 0.5, steps).pow(2);
    case 'squaredcos_cap_v2': {
      // Nichol & Dhariwal 2021: ᾱ is a squared cosine, with 0.008 for a start that is not noiseless.
      const alphaBar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
      const beta = (i: number) => Math.min(1 - alphaBar((i + 1) / steps) / alphaBar(i / steps), 0.999);
      return tensor(
        Array.from({ length: steps }, (_, i) => beta(i)),
        [steps],
      );
    }
  }
}

function alphasCumprod(betas: Tensor): Tensor {
  return ones(betas.shape).sub(betas).cumprod(0);
}

/** Shifts and scales √ᾱ so that its last value is 0 and its first stays. */
function rescaleZeroTerminalSnr(betas: Tensor): Tensor {
  const roots = alphasCumprod(betas).sqrt();
  const [steps = 0] = roots.shape;
  const first = roots.slice(0, 0, 1);
  const last = roots.slice(0, steps - 1);
  const bars = roots
    .sub(last)
    .mul(first.div(first.sub(last)))
    .square();
  const alphas = bars.slice(0, 1).div(bars.slice(0, 0, steps - 1));
  return cat([bars.slice(0, 0, 1), alphas])
    .neg()
    .add(1);
}

function readConfig(path: string): DDPMConfig {
  const { file, values } = readJson(path);
  const fail = (key: string, expected: string): never => {
    throw new ConfigError(
      `Expected ${expected} for ${key} in ${file} but received ${JSON.stringify(values[key])}`,
    );
  };
  const number = (key: string, fallback: number): number => {
    const value = values[key] ?? fallback;
    return typeof value === 'number' && value > 0 && value < 1
      ? value
      : fail(key, 'a number between 0 and 1');
  };
  const oneOf = <T extends string>(key: string, allowed: readonly T[], fallback: T): T =>
    allowed.find((name) => name === (values[key] ?? fallback)) ?? fail(key, `one of ${allowed.join(', ')}`);

  const betas = values.trained_betas ?? null;
  if (betas === null && !('beta_start' in values || 'beta_end' in values || 'beta_schedule' in values)) {
    // A flow-matching model, for one, has no betas at all; the defaults would be silently wrong.
    fail('beta_schedule', `one of ${BETA_SCHEDULES.join(', ')}`);
  }
  if (betas !== null && !isBetas(betas)) {
    return fail('trained_betas', 'a list of numbers between 0 and 1, or null');
  }
  const steps = values.num_train_timesteps ?? 1000;
  if (typeof steps !== 'number' || !Number.isInteger(steps) || steps < 2 || steps > 1e6) {
    return fail('num_train_timesteps', 'a whole number from 2 to 1000000');
  }
  if (betas !== null && betas.length !== steps)
    fail('num_train_timesteps', `${betas.length}, the number of betas,`);
  const rescale = values.rescale_betas_zero_snr ?? false;
  if (typeof rescale !== 'boolean') return fail('rescale_betas_zero_snr', 'true or false');
  return {
    num_train_timesteps: steps,
    // diffusers' defaults, for keys that an older config does not have.
    beta_start: number('beta_start', 0.0001),
    beta_end: number('beta_end', 0.02),
    beta_schedule: betas === null ? oneOf('beta_schedule', BETA_SCHEDULES, 'linear') : 'linear',
    trained_betas: betas,
    prediction_type: oneOf('prediction_type', PREDICTION_TYPES, 'epsilon'),
    rescale_betas_zero_snr: rescale,
  };
}

function isBetas(value: unknown): value is number[] {
  return (
    Array.isArray(value) && value.length > 0 && value.every((b) => typeof b === 'number' && b > 0 && b < 1)
  );
}

function readJson(path: string): { file: string; values: Record<string, unknown> } {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  const file = isFolder ? join(path, 'scheduler_config.json') : path;
  let values: unknown;
  try {
    values = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`Expected a scheduler's config at ${file}: ${(cause as Error).message}`, { cause });
  }
  if (values === null || typeof values !== 'object' || Array.isArray(values)) {
    throw new ConfigError(`Expected a JSON object in ${file}`);
  }
  return { file, values: values as Record<string, unknown> };
}
