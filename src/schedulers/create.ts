/** @file A model's sampler: the one that its scheduler_config.json names, or another by name. */
import { ConfigError } from '../base/errors.js';
import {
  type SamplerMethod,
  type SamplerName,
  type SchedulerFile,
  samplerNames,
  sigmaSpacingKeys,
  splitSamplerName,
} from './config.js';
import { LCMScheduler, readLCM, readTCD, TCDScheduler } from './consistency.js';
import { DDIMScheduler, readDDIM } from './ddim.js';
import { DDPMScheduler, readDDPM } from './ddpm.js';
import { DEISMultistepScheduler, readDEISMultistep } from './deis-multistep.js';
import { DPMSolverMultistepScheduler, readDPMSolverMultistep } from './dpm-solver-multistep.js';
import { DPMSolverSDEScheduler } from './dpm-solver-sde.js';
import { DPMSolverSinglestepScheduler, readDPMSolverSinglestep } from './dpm-solver-singlestep.js';
import {
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  readEulerAncestralDiscrete,
  readEulerDiscrete,
} from './euler-discrete.js';
import { HeunDiscreteScheduler, readHeunDiscrete } from './heun-discrete.js';
import { KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler } from './k-dpm-2-discrete.js';
import { LMSDiscreteScheduler } from './lms-discrete.js';
import { PNDMScheduler, readPNDM } from './pndm.js';
import type { Sampler } from './sampler.js';
import { readSchedule } from './schedule.js';
import { readUniPCMultistep, UniPCMultistepScheduler } from './unipc-multistep.js';

export interface SamplerSettings {
  /** How much noise DDIM (default 0) and TCD (default 0.3) add at each step, 0 … 1. */
  eta?: number;
}

type Maker = (file: SchedulerFile, settings: SamplerSettings) => Sampler;

/** By the names of diffusers' classes, as a config has them. */
const makers = {
  DDIMScheduler: (file, { eta }) => new DDIMScheduler(readDDIM(file), eta),
  DDPMScheduler: (file) => new DDPMScheduler(readDDPM(file)),
  PNDMScheduler: (file) => new PNDMScheduler(readPNDM(file)),
  EulerAncestralDiscreteScheduler: (file) =>
    new EulerAncestralDiscreteScheduler(readEulerAncestralDiscrete(file)),
  LCMScheduler: (file) => new LCMScheduler(readLCM(file)),
  TCDScheduler: (file, { eta }) => new TCDScheduler(readTCD(file), eta),
  EulerDiscreteScheduler: (file) => new EulerDiscreteScheduler(readEulerDiscrete(file)),
  HeunDiscreteScheduler: (file) => new HeunDiscreteScheduler(readHeunDiscrete(file)),
  LMSDiscreteScheduler: (file) => new LMSDiscreteScheduler(readSchedule(file)),
  KDPM2DiscreteScheduler: (file) => new KDPM2DiscreteScheduler(readSchedule(file)),
  KDPM2AncestralDiscreteScheduler: (file) => new KDPM2AncestralDiscreteScheduler(readSchedule(file)),
  DPMSolverSDEScheduler: (file) => new DPMSolverSDEScheduler(readSchedule(file)),
  DPMSolverMultistepScheduler: (file) => new DPMSolverMultistepScheduler(readDPMSolverMultistep(file)),
  DPMSolverSinglestepScheduler: (file) => new DPMSolverSinglestepScheduler(readDPMSolverSinglestep(file)),
  DEISMultistepScheduler: (file) => new DEISMultistepScheduler(readDEISMultistep(file)),
  UniPCMultistepScheduler: (file) => new UniPCMultistepScheduler(readUniPCMultistep(file)),
} satisfies Record<string, Maker>;

type ClassName = keyof typeof makers;

/** The classes of diffusers that a config may name. */
export const samplerClasses = Object.keys(makers) as readonly ClassName[];

/** The class of each method, and the keys that the method's name decides. */
const methods: Record<SamplerMethod, { className: ClassName; keys?: Record<string, unknown> }> = {
  ddim: { className: 'DDIMScheduler' },
  ddpm: { className: 'DDPMScheduler' },
  pndm: { className: 'PNDMScheduler' },
  'euler-a': { className: 'EulerAncestralDiscreteScheduler' },
  lcm: { className: 'LCMScheduler' },
  tcd: { className: 'TCDScheduler' },
  euler: { className: 'EulerDiscreteScheduler' },
  heun: { className: 'HeunDiscreteScheduler' },
  lms: { className: 'LMSDiscreteScheduler' },
  dpm2: { className: 'KDPM2DiscreteScheduler' },
  'dpm2-a': { className: 'KDPM2AncestralDiscreteScheduler' },
  'dpmpp-2m': {
    className: 'DPMSolverMultistepScheduler',
    keys: { algorithm_type: 'dpmsolver++', solver_order: 2 },
  },
  'dpmpp-2m-sde': {
    className: 'DPMSolverMultistepScheduler',
    keys: { algorithm_type: 'sde-dpmsolver++', solver_order: 2 },
  },
  'dpmpp-3m-sde': {
    className: 'DPMSolverMultistepScheduler',
    keys: { algorithm_type: 'sde-dpmsolver++', solver_order: 3 },
  },
  'dpmpp-sde': { className: 'DPMSolverSDEScheduler' },
  'dpmpp-singlestep': {
    className: 'DPMSolverSinglestepScheduler',
    keys: { algorithm_type: 'dpmsolver++', solver_order: 2 },
  },
  deis: { className: 'DEISMultistepScheduler', keys: { algorithm_type: 'deis' } },
  unipc: { className: 'UniPCMultistepScheduler' },
};

/** They do not know rescale_betas_zero_snr and walk with the betas as they are, as in diffusers. */
const withoutZeroSnr: readonly ClassName[] = [
  'HeunDiscreteScheduler',
  'LMSDiscreteScheduler',
  'KDPM2DiscreteScheduler',
  'KDPM2AncestralDiscreteScheduler',
  'DPMSolverSDEScheduler',
  'DPMSolverSinglestepScheduler',
  'DEISMultistepScheduler',
];

/** They divide by the signal, which pure noise does not have, where the model predicts noise; PNDM does always. */
const dividers: readonly ClassName[] = ['DDIMScheduler', 'DDPMScheduler', 'LCMScheduler', 'TCDScheduler'];

/**
 * @param name default: what the config names
 * @throws ConfigError where the config names a class that is not supported, has a key that the sampler cannot follow, or
 *   betas that it cannot start from
 */
export function createSampler(
  scheduler: SchedulerFile,
  name?: SamplerName,
  settings: SamplerSettings = {},
): Sampler {
  const { className, file } = scheduler;
  const chosen = name === undefined ? scheduler : named(scheduler, name);
  const known = samplerClasses.find((one) => one === chosen.className);
  if (known === undefined)
    throw new ConfigError(
      `Expected one of ${samplerClasses.join(', ')} for _class_name in ${file} but received ${className ?? 'nothing'}; choose a sampler with --scheduler: ${samplerNames.join(', ')}`,
    );
  const { rescale_betas_zero_snr, prediction_type } = chosen.config;
  const needsSignal =
    known === 'PNDMScheduler' || (prediction_type === 'epsilon' && dividers.includes(known));
  if (rescale_betas_zero_snr && needsSignal)
    throw new ConfigError(
      `${name ?? known} cannot start from the pure noise of rescale_betas_zero_snr in ${file}; choose --scheduler euler`,
    );
  if (!withoutZeroSnr.includes(known)) return makers[known](chosen, settings);
  const config = { ...chosen.config, rescale_betas_zero_snr: false };
  return makers[known]({ ...chosen, config }, settings);
}

/** The config as if it were of that sampler. */
function named(scheduler: SchedulerFile, name: SamplerName): SchedulerFile {
  const { method, spacing } = splitSamplerName(name);
  const { className, keys = {} } = methods[method];
  const spacings = spacing === undefined ? {} : sigmaSpacingKeys(spacing);
  return { ...scheduler, className, values: scheduler.values.with({ ...keys, ...spacings }) };
}
