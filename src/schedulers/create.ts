/** @file A model's sampler: the one that its scheduler_config.json names, or another by name. */
import { ConfigError } from '../base/errors.js';
import { type SamplerName, type SchedulerFile, samplerNames } from './config.js';
import { DDIMScheduler, readDDIM } from './ddim.js';
import { DDPMScheduler, readDDPM } from './ddpm.js';
import { DPMSolverMultistepScheduler, readDPMSolverMultistep } from './dpm-solver-multistep.js';
import { EulerDiscreteScheduler, readEulerDiscrete } from './euler-discrete.js';
import { PNDMScheduler, readPNDM } from './pndm.js';
import type { Sampler } from './sampler.js';

const byClass: Record<string, SamplerName> = {
  DDIMScheduler: 'ddim',
  PNDMScheduler: 'pndm',
  EulerDiscreteScheduler: 'euler',
  DPMSolverMultistepScheduler: 'dpmpp-2m',
  DDPMScheduler: 'ddpm',
};

/** The classes of diffusers that a config may name. */
export const samplerClasses: readonly string[] = Object.keys(byClass);

/**
 * @param name default: what the config names
 * @throws ConfigError where the config names a class that is not supported, has a key that the sampler cannot follow, or betas
 *   that it cannot start from
 */
export function createSampler(scheduler: SchedulerFile, name?: SamplerName): Sampler {
  const { className, config, file } = scheduler;
  const chosen = name ?? byClass[className ?? ''];
  if (chosen === undefined)
    throw new ConfigError(
      `Expected one of ${samplerClasses.join(', ')} for _class_name in ${file} but received ${className ?? 'nothing'}; choose a sampler with --scheduler: ${samplerNames.join(', ')}`,
    );
  // From pure noise only the velocity says what the picture is; PNDM's formula divides by the signal in any case.
  const dividesBySignal =
    chosen === 'pndm' || (config.prediction_type === 'epsilon' && chosen.startsWith('dd'));
  if (config.rescale_betas_zero_snr && dividesBySignal)
    throw new ConfigError(
      `${chosen} cannot start from the pure noise of rescale_betas_zero_snr in ${file}; choose --scheduler euler`,
    );
  return makers[chosen](scheduler);
}

const makers: Record<SamplerName, (file: SchedulerFile) => Sampler> = {
  ddim: (file) => new DDIMScheduler(readDDIM(file)),
  pndm: (file) => new PNDMScheduler(readPNDM(file)),
  euler: (file) => new EulerDiscreteScheduler(readEulerDiscrete(file)),
  'dpmpp-2m': (file) => new DPMSolverMultistepScheduler(readDPMSolverMultistep(file)),
  'dpmpp-2m-karras': (file) =>
    new DPMSolverMultistepScheduler({ ...readDPMSolverMultistep(file), use_karras_sigmas: true }),
  ddpm: (file) => new DDPMScheduler(readDDPM(file)),
};
