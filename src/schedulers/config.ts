/** @file A model's `scheduler_config.json`: the samplers' names, what training needs, and what samplers share. */
import { ConfigValues } from './config-values.js';

const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const;
const PREDICTION_TYPES = ['epsilon', 'v_prediction'] as const;
const TIMESTEP_SPACINGS = ['leading', 'linspace', 'trailing'] as const;

export type TimestepSpacing = (typeof TIMESTEP_SPACINGS)[number];

/** How noise levels can be spaced, other than by timesteps. */
const SIGMA_SPACINGS = ['karras', 'exponential', 'beta'] as const;

export type SigmaSpacing = (typeof SIGMA_SPACINGS)[number];

const TIMESTEP_SAMPLERS = ['ddim', 'ddpm', 'pndm', 'euler-a', 'lcm', 'tcd'] as const;
const SIGMA_SAMPLERS = [
  'euler',
  'heun',
  'lms',
  'dpm2',
  'dpm2-a',
  'dpmpp-2m',
  'dpmpp-2m-sde',
  'dpmpp-3m-sde',
  'dpmpp-sde',
  'dpmpp-singlestep',
  'deis',
  'unipc',
] as const;

/** The methods, without a spacing of noise levels; the names with 'dpmpp' are those of k-diffusion. */
export type SamplerMethod = (typeof TIMESTEP_SAMPLERS)[number] | (typeof SIGMA_SAMPLERS)[number];

export type SamplerName = SamplerMethod | `${(typeof SIGMA_SAMPLERS)[number]}-${SigmaSpacing}`;

/** The samplers, as a user names them: the methods, then those with a spacing of noise levels, dpmpp-2m-karras say. */
export const samplerNames: readonly SamplerName[] = [
  ...TIMESTEP_SAMPLERS,
  ...SIGMA_SAMPLERS,
  ...SIGMA_SAMPLERS.flatMap((method) => SIGMA_SPACINGS.map((spacing) => `${method}-${spacing}` as const)),
];

/** Returns the parts of a name. */
export function splitSamplerName(name: SamplerName): { method: SamplerMethod; spacing?: SigmaSpacing } {
  const spacing = SIGMA_SPACINGS.find((one) => name.endsWith(`-${one}`));
  if (spacing === undefined) return { method: name as SamplerMethod };
  return { method: name.slice(0, -`-${spacing}`.length) as SamplerMethod, spacing };
}

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

/** Which of the trained timesteps are sampled. For a key that is missing each sampler has diffusers' default. */
export interface SpacingConfig extends NoiseConfig {
  /** How the sampled timesteps lie among the trained ones (Lin et al. 2023, table 2). */
  timestep_spacing?: TimestepSpacing;
  /** Added to every timestep where the spacing is 'leading'. */
  steps_offset?: number;
}

/** Whether the predicted latents are clamped to ±clip_sample_range. */
export interface ClipConfig {
  clip_sample?: boolean;
  clip_sample_range?: number;
}

/** How noise levels are spaced, where not by timesteps. */
export interface SigmasConfig {
  sigma_spacing?: SigmaSpacing;
  /** The least and the largest level of that spacing; default: those of the timesteps. */
  sigma_min?: number;
  sigma_max?: number;
  /** The level that the last step goes to: 0, or that of timestep 0. */
  final_sigmas_type?: 'sigma_min' | 'zero';
}

/** A config, and the class of sampler that it names. */
export interface SchedulerFile {
  /** Such as 'PNDMScheduler'; undefined where the file names none. */
  className: string | undefined;
  config: NoiseConfig;
  /** The keys of samplers. Each sampler reads its own: one that is not chosen refuses nothing. */
  values: ConfigValues;
  /** Its path, for errors. */
  file: string;
}

/**
 * Reads the part that training needs; keys that concern only samplers are not looked at.
 * @param path a `scheduler_config.json`, or the folder that holds one
 * @throws ConfigError naming file, key and what is allowed
 */
export function readNoiseConfig(path: string): NoiseConfig {
  return noiseConfig(ConfigValues.read(path));
}

/** Reads what every sampler needs; path and errors as for `readNoiseConfig`. */
export function readSchedulerConfig(path: string): SchedulerFile {
  return schedulerFile(ConfigValues.read(path));
}

/** @param file where the text is from, for errors */
export function parseSchedulerConfig(text: string, file: string): SchedulerFile {
  return schedulerFile(ConfigValues.parse(text, file));
}

function schedulerFile(values: ConfigValues): SchedulerFile {
  const className = values.get('_class_name');
  return {
    className: typeof className === 'string' ? className : undefined,
    config: noiseConfig(values),
    values,
    file: values.file,
  };
}

function noiseConfig(values: ConfigValues): NoiseConfig {
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

export function readSpacing(values: ConfigValues): Omit<SpacingConfig, keyof NoiseConfig> {
  return {
    timestep_spacing: values.oneOf('timestep_spacing', TIMESTEP_SPACINGS),
    steps_offset: values.count('steps_offset', 0),
  };
}

export function readClip(values: ConfigValues): ClipConfig {
  // Thresholding is for models of pixels.
  values.only('thresholding', false);
  return { clip_sample: values.flag('clip_sample'), clip_sample_range: values.positive('clip_sample_range') };
}

export function readSigmas(values: ConfigValues): SigmasConfig {
  const [spacing, second] = SIGMA_SPACINGS.filter((one) => values.flag(`use_${one}_sigmas`));
  if (second !== undefined) values.fail(`use_${second}_sigmas`, `false beside use_${spacing}_sigmas`);
  return {
    sigma_spacing: spacing,
    sigma_min: values.positive('sigma_min'),
    sigma_max: values.positive('sigma_max'),
    final_sigmas_type: values.oneOf('final_sigmas_type', ['sigma_min', 'zero']),
  };
}

/** Returns the keys of a config with that spacing. */
export function sigmaSpacingKeys(spacing: SigmaSpacing): Record<string, boolean> {
  return Object.fromEntries(SIGMA_SPACINGS.map((one) => [`use_${one}_sigmas`, one === spacing]));
}

function isShare(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value < 1;
}
