/** @file diffusers' class and options of each sampler. */
import {
  type SamplerMethod,
  type SamplerName,
  sigmaSpacingKeys,
  splitSamplerName,
} from '../../src/schedulers/config.js';

type Peer = [className: string, options: Record<string, unknown>];

const dpm = (algorithm: string, order: number): Record<string, unknown> => ({
  algorithm_type: algorithm,
  solver_order: order,
});

const peers: Record<SamplerMethod, Peer> = {
  ddim: ['DDIMScheduler', {}],
  ddpm: ['DDPMScheduler', {}],
  pndm: ['PNDMScheduler', { skip_prk_steps: true }],
  'euler-a': ['EulerAncestralDiscreteScheduler', {}],
  lcm: ['LCMScheduler', {}],
  tcd: ['TCDScheduler', {}],
  euler: ['EulerDiscreteScheduler', {}],
  heun: ['HeunDiscreteScheduler', {}],
  lms: ['LMSDiscreteScheduler', {}],
  dpm2: ['KDPM2DiscreteScheduler', {}],
  'dpm2-a': ['KDPM2AncestralDiscreteScheduler', {}],
  'dpmpp-2m': ['DPMSolverMultistepScheduler', dpm('dpmsolver++', 2)],
  'dpmpp-2m-sde': ['DPMSolverMultistepScheduler', dpm('sde-dpmsolver++', 2)],
  'dpmpp-3m-sde': ['DPMSolverMultistepScheduler', dpm('sde-dpmsolver++', 3)],
  'dpmpp-sde': ['DPMSolverSDEScheduler', {}],
  'dpmpp-singlestep': ['DPMSolverSinglestepScheduler', dpm('dpmsolver++', 2)],
  deis: ['DEISMultistepScheduler', { algorithm_type: 'deis' }],
  unipc: ['UniPCMultistepScheduler', {}],
};

/** Returns diffusers' class of a sampler, and the options that make it this one. */
export function diffusersScheduler(name: SamplerName): Peer {
  const { method, spacing } = splitSamplerName(name);
  const [className, options] = peers[method];
  return [className, { ...options, ...(spacing && sigmaSpacingKeys(spacing)) }];
}
