/** Models whose last timestep is pure noise are sampled as diffusers does. Made by tools/golden/zero_snr_walks.py. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden } from '../../test/golden.js';
import { readJson } from '../../test/model-files.js';
import type { Tensor } from '../torch/index.js';
import { parseSchedulerConfig } from './config.js';
import { createSampler } from './create.js';

const folder = golden('schedulers_zero_snr') as string;
const config = readJson(join(folder, 'config.json'));

describe('a walk from pure noise on', () => {
  it.each(['EulerDiscreteScheduler', 'DDIMScheduler', 'DPMSolverMultistepScheduler'])('%s', (className) => {
    const text = JSON.stringify({ ...config, _class_name: className });
    using sampler = createSampler(parseSchedulerConfig(text, 'scheduler_config.json'));
    const walk = readGolden(join(folder, `${className}.safetensors`));
    const recorded = (key: string) => walk.get(key) as Tensor;
    sampler.setTimesteps(10);
    expect(sampler.timesteps).toEqual(recorded('timesteps').toNumbers());
    expect(sampler.timesteps[0]).toBe(999);
    expect(sampler.initNoiseSigma).toBeCloseTo(recorded('init_noise_sigma').item(), 3);
    let x = recorded('initial').mul(sampler.initNoiseSigma);
    for (const [i, t] of sampler.timesteps.entries()) {
      const input = sampler.scaleModelInput(x, t);
      x = sampler.step(input.mul(0.3).add((0.01 * t) / 1000), t, x, () => x);
      // Euler's first step goes from a level of 4096 to 14, and float32 keeps 7 digits of the former.
      expectAllclose(x, recorded('samples').select(0, i + 1), 1e-4);
    }
  });
});
