/** @file A model's sampler: the one that its scheduler_config.json names, or another by name. */
import { ConfigError } from '../base/errors.js';
import { type SamplerName, type SchedulerConfig, type SchedulerFile, samplerNames } from './config.js';
import { DDIMScheduler } from './ddim.js';
import { DDPMScheduler } from './ddpm.js';
import { DPMSolverMultistepScheduler } from './dpm-solver-multistep.js';
import { EulerDiscreteScheduler } from './euler-discrete.js';
import { PNDMScheduler } from './pndm.js';
import type { Sampler } from './sampler.js';

const byClass: Record<string, SamplerName> = {
  DDIMScheduler: 'ddim',
  PNDMScheduler: 'pndm',
  EulerDiscreteScheduler: 'euler',
  DPMSolverMultistepScheduler: 'dpmpp-2m',
  DDPMScheduler: 'ddpm',
};

/**
 * @param name default: what the config names
 * @throws ConfigError where the config names a class that is not supported, or the sampler cannot use the model's betas
 */
export function createSampler({ className, config, file }: SchedulerFile, name?: SamplerName): Sampler {
  const chosen = name ?? byClass[className ?? ''];
  if (chosen === undefined)
    throw new ConfigError(
      `Expected one of ${Object.keys(byClass).join(', ')} for _class_name in ${file} but received ${className ?? 'nothing'}; choose a sampler with --scheduler: ${samplerNames.join(', ')}`,
    );
  // From pure noise only the velocity says what the picture is; PNDM's formula divides by the signal in any case.
  const dividesBySignal =
    chosen === 'pndm' || (config.prediction_type === 'epsilon' && chosen.startsWith('dd'));
  if (config.rescale_betas_zero_snr && dividesBySignal)
    throw new ConfigError(
      `${chosen} cannot start from the pure noise of rescale_betas_zero_snr in ${file}; choose --scheduler euler`,
    );
  return makers[chosen](config);
}

const makers: Record<SamplerName, (config: SchedulerConfig) => Sampler> = {
  ddim: (config) => new DDIMScheduler(config),
  pndm: (config) => new PNDMScheduler(config),
  euler: (config) => new EulerDiscreteScheduler(config),
  'dpmpp-2m': (config) => new DPMSolverMultistepScheduler(config),
  'dpmpp-2m-karras': (config) => new DPMSolverMultistepScheduler({ ...config, use_karras_sigmas: true }),
  ddpm: (config) => new DDPMScheduler(config),
};
