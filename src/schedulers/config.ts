/** @file A model's `scheduler_config.json`: what training and every sampler here need of it (diffusers' names). */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, shown } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';

const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const;
const PREDICTION_TYPES = ['epsilon', 'v_prediction'] as const;
const TIMESTEP_SPACINGS = ['leading', 'linspace', 'trailing'] as const;

export type TimestepSpacing = (typeof TIMESTEP_SPACINGS)[number];

/** The samplers, as a user names them; the names with 'dpmpp' are those of k-diffusion. */
export const samplerNames = ['ddim', 'pndm', 'euler', 'dpmpp-2m', 'dpmpp-2m-karras', 'ddpm'] as const;

export type SamplerName = (typeof samplerNames)[number];

/** What training needs. */
export interface NoiseConfig {
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

/** What samplers need besides; for a key that is missing each has its own default, diffusers'. */
export interface SchedulerConfig extends NoiseConfig {
  /** How the sampled timesteps lie among the trained ones (Lin et al. 2023, table 2). */
  timestep_spacing?: TimestepSpacing;
  /** Added to every timestep where the spacing is 'leading'. */
  steps_offset?: number;
  /** Whether the predicted latents are clamped to ±clip_sample_range. */
  clip_sample?: boolean;
  clip_sample_range?: number;
  /** Whether the last step goes to no noise at all, and not to the noise of timestep 0. */
  set_alpha_to_one?: boolean;
  /** DDPM: the smaller or the larger of the two variances for which the reverse step is exact. */
  variance_type?: 'fixed_small' | 'fixed_large';
  /** Noise levels spaced as in Karras et al. 2022, equation 5. */
  use_karras_sigmas?: boolean;
  /** DPM-Solver: the order of the multistep method. */
  solver_order?: 1 | 2;
  solver_type?: 'midpoint' | 'heun';
  /** DPM-Solver: whether runs of less than 15 steps end with a step of first order. */
  lower_order_final?: boolean;
  /** DPM-Solver: whether every run does. */
  euler_at_final?: boolean;
  /** DPM-Solver: the noise level that the last step goes to. */
  final_sigmas_type?: 'sigma_min' | 'zero';
}

/** A config, and the class of sampler that it names. */
export interface SchedulerFile {
  /** Such as 'PNDMScheduler'; undefined where the file names none. */
  className: string | undefined;
  config: SchedulerConfig;
  /** Its path, for errors. */
  file: string;
}

/**
 * The part that training needs; keys that concern only samplers are not looked at.
 * @param path a `scheduler_config.json`, or the folder that holds one
 * @throws ConfigError naming file, key and what is allowed
 */
export function readNoiseConfig(path: string): NoiseConfig {
  const { text, file } = readText(path);
  return noiseConfig(new Values(parseJson(text, file), file));
}

/** The whole config; path and errors as for `readNoiseConfig`. */
export function readSchedulerConfig(path: string): SchedulerFile {
  const { text, file } = readText(path);
  return parseSchedulerConfig(text, file);
}

/** @param file where the text is from, for errors */
export function parseSchedulerConfig(text: string, file: string): SchedulerFile {
  const json = parseJson(text, file);
  const values = new Values(json, file);
  const className = typeof json._class_name === 'string' ? json._class_name : undefined;
  return { className, config: { ...noiseConfig(values), ...samplingConfig(values) }, file };
}

function readText(path: string): { text: string; file: string } {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  const file = isFolder ? join(path, 'scheduler_config.json') : path;
  try {
    return { text: readFileSync(regularFile(file), 'utf8'), file };
  } catch (cause) {
    throw new ConfigError(`Expected a scheduler's config at ${file}: ${(cause as Error).message}`, { cause });
  }
}

function parseJson(text: string, file: string): Record<string, unknown> {
  let json: unknown;
  try {
    // Python writes lambda_min_clipped as -Infinity, which JSON does not have; -1e999 is read as that.
    json = JSON.parse(text.replace(/:\s*-Infinity\b/g, ': -1e999'));
  } catch (cause) {
    throw new ConfigError(`Expected a scheduler's config at ${file}: ${(cause as Error).message}`, { cause });
  }
  if (json === null || typeof json !== 'object' || Array.isArray(json))
    throw new ConfigError(`Expected a JSON object in ${file}`);
  return json as Record<string, unknown>;
}

/** The values of a file. Null is how diffusers writes 'not given'. */
class Values {
  readonly #json: Record<string, unknown>;
  readonly #file: string;
  readonly #unset: ReadonlySet<unknown>;

  constructor(json: Record<string, unknown>, file: string) {
    this.#json = json;
    this.#file = file;
    // diffusers lists here the keys that nobody set: another class than the file's then has its own defaults.
    this.#unset = new Set(Array.isArray(json._use_default_values) ? json._use_default_values : []);
  }

  has(key: string): boolean {
    return key in this.#json;
  }

  get(key: string): unknown {
    return this.#unset.has(key) ? undefined : (this.#json[key] ?? undefined);
  }

  fail(key: string, expected: string): never {
    throw new ConfigError(
      `Expected ${expected} for ${key} in ${this.#file} but received ${shown(this.#json[key])}`,
    );
  }

  number(key: string, fits: (value: number) => boolean, expected: string): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    return typeof value === 'number' && fits(value) ? value : this.fail(key, expected);
  }

  count(key: string, min: number): number | undefined {
    const fits = (value: number) => Number.isInteger(value) && value >= min && value <= 1e6;
    return this.number(key, fits, `a whole number from ${min} to 1000000`);
  }

  flag(key: string): boolean | undefined {
    const value = this.get(key);
    return value === undefined || typeof value === 'boolean' ? value : this.fail(key, 'true or false');
  }

  oneOf<const T extends string | number>(key: string, allowed: readonly T[]): T | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    return allowed.find((one) => one === value) ?? this.fail(key, `one of ${allowed.join(', ')}`);
  }

  /** A key that would change the pictures, and whose one supported value is given. */
  only(key: string, supported: boolean | string | number): void {
    const value = this.get(key) ?? supported;
    if (value !== supported) this.fail(key, String(supported));
  }
}

function noiseConfig(values: Values): NoiseConfig {
  const betas = values.get('trained_betas') ?? null;
  if (betas === null && !['beta_start', 'beta_end', 'beta_schedule'].some((key) => values.has(key))) {
    // A flow-matching model, for one, has no betas at all; the defaults would be silently wrong.
    values.fail('beta_schedule', `one of ${BETA_SCHEDULES.join(', ')}`);
  }
  if (betas !== null && !(Array.isArray(betas) && betas.length > 0 && betas.every(isShare)))
    return values.fail('trained_betas', 'a list of numbers between 0 and 1, or null');
  const steps = values.count('num_train_timesteps', 2) ?? 1000;
  if (betas !== null && betas.length !== steps)
    values.fail('num_train_timesteps', `${betas.length}, the number of betas,`);
  const share = (key: string) => values.number(key, isShare, 'a number between 0 and 1');
  return {
    num_train_timesteps: steps,
    // diffusers' defaults, for keys that an older config does not have.
    beta_start: share('beta_start') ?? 0.0001,
    beta_end: share('beta_end') ?? 0.02,
    beta_schedule: (betas === null ? values.oneOf('beta_schedule', BETA_SCHEDULES) : undefined) ?? 'linear',
    trained_betas: betas,
    prediction_type: values.oneOf('prediction_type', PREDICTION_TYPES) ?? 'epsilon',
    rescale_betas_zero_snr: values.flag('rescale_betas_zero_snr') ?? false,
  };
}

function samplingConfig(values: Values): Omit<SchedulerConfig, keyof NoiseConfig> {
  // Thresholding is for pixels; the others are spacings of noise levels that are rarely used.
  for (const key of [
    'thresholding',
    'use_lu_lambdas',
    'use_exponential_sigmas',
    'use_beta_sigmas',
    'use_flow_sigmas',
  ])
    values.only(key, false);
  values.only('interpolation_type', 'linear');
  values.only('lambda_min_clipped', Number.NEGATIVE_INFINITY);
  values.only('skip_prk_steps', true);
  values.only('algorithm_type', 'dpmsolver++');
  // The last three are of other classes (DEIS, UniPC); diffusers takes the midpoint method for them.
  const solver = values.oneOf('solver_type', ['midpoint', 'heun', 'logrho', 'bh1', 'bh2']);
  return {
    timestep_spacing: values.oneOf('timestep_spacing', TIMESTEP_SPACINGS),
    steps_offset: values.count('steps_offset', 0),
    clip_sample: values.flag('clip_sample'),
    clip_sample_range: values.number('clip_sample_range', (range) => range > 0, 'a number above 0'),
    set_alpha_to_one: values.flag('set_alpha_to_one'),
    variance_type: values.oneOf('variance_type', ['fixed_small', 'fixed_large']),
    use_karras_sigmas: values.flag('use_karras_sigmas'),
    solver_order: values.oneOf('solver_order', [1, 2]),
    solver_type: solver === 'heun' ? 'heun' : 'midpoint',
    lower_order_final: values.flag('lower_order_final'),
    euler_at_final: values.flag('euler_at_final'),
    final_sigmas_type: values.oneOf('final_sigmas_type', ['sigma_min', 'zero']),
  };
}

function isShare(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value < 1;
}
