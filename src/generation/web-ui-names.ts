/** @file The names of samplers in web UIs (AUTOMATIC1111 `modules/sd_samplers_kdiffusion.py`), which read them from images. */
import { type SamplerMethod, type SamplerName, splitSamplerName } from '../schedulers/config.js';

const names: Record<SamplerMethod, string> = {
  ddim: 'DDIM',
  ddpm: 'DDPM',
  pndm: 'PLMS',
  'euler-a': 'Euler a',
  lcm: 'LCM',
  tcd: 'TCD',
  euler: 'Euler',
  heun: 'Heun',
  lms: 'LMS',
  dpm2: 'DPM2',
  'dpm2-a': 'DPM2 a',
  'dpmpp-2m': 'DPM++ 2M',
  'dpmpp-2m-sde': 'DPM++ 2M SDE',
  'dpmpp-3m-sde': 'DPM++ 3M SDE',
  'dpmpp-sde': 'DPM++ SDE',
  'dpmpp-singlestep': 'DPM++ 2S',
  deis: 'DEIS',
  unipc: 'UniPC',
};

/** Returns the web UIs' words for a sampler and the spacing of its noise levels. */
export function webUiSampler(name: SamplerName): [setting: string, value: string][] {
  const { method, spacing } = splitSamplerName(name);
  const sampler: [string, string] = ['Sampler', names[method]];
  if (spacing === undefined) return [sampler];
  return [sampler, ['Schedule type', (spacing[0] as string).toUpperCase() + spacing.slice(1)]];
}
