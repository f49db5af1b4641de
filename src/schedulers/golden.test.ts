import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, goldenFolders, readGolden } from '../../test/golden.js';
import type { Tensor } from '../torch/index.js';
import { parseSchedulerConfig } from './config.js';
import { createSampler } from './create.js';
import { DDIMScheduler, readDDIM } from './ddim.js';
import type { Sampler } from './sampler.js';

interface Recorded {
  num_inference_steps: number;
  step_kwargs: { eta?: number };
  scheduler_config: object;
}

/** Every recorded walk: `name.json` with its settings beside `name.safetensors`. */
const walks = goldenFolders('schedulers').flatMap((folder) =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => {
      // Python's JSON has -Infinity.
      const text = readFileSync(join(folder, file), 'utf8').replaceAll('-Infinity', '-1e999');
      return {
        name: file.slice(0, -'.json'.length),
        folder,
        settings: JSON.parse(text) as Partial<Recorded>,
      };
    })
    .filter(
      (walk): walk is typeof walk & { settings: Recorded } => walk.settings.num_inference_steps !== undefined,
    ),
);

describe('samplers walk as the original', () => {
  it('has recorded walks of every class', () => {
    const classes = ['ddim', 'pndm', 'euler', 'dpmpp2m', 'dpmpp2m_karras', 'ddpm'];
    const names = walks.map(({ name }) => name.replace(/_\d+$/, ''));
    expect(names).toEqual(expect.arrayContaining(classes));
  });

  it.each(walks)('$folder/$name', ({ name, folder, settings }) => {
    const { num_inference_steps: steps, step_kwargs, scheduler_config } = settings;
    // Recorded with diffusers 0.22, whose DPM-Solver++ always ended at the least trained level.
    const end = name.startsWith('dpmpp') ? { final_sigmas_type: 'sigma_min' } : {};
    const config = { ...end, ...scheduler_config };
    const text = JSON.stringify(config, (key, value) => (key === 'lambda_min_clipped' ? undefined : value));
    const file = parseSchedulerConfig(text, `${name}.json`);
    const { eta, ...others } = step_kwargs;
    expect(others).toEqual({});
    using sampler: Sampler = eta === undefined ? createSampler(file) : new DDIMScheduler(readDDIM(file), eta);
    const expected = readGolden(join(folder, `${name}.safetensors`));
    const of = (key: string) => expected.get(key) as Tensor;

    sampler.setTimesteps(steps);
    const timesteps = of('timesteps').toNumbers();
    expect(sampler.timesteps).toHaveLength(timesteps.length);
    for (const [i, t] of timesteps.entries()) expect(sampler.timesteps[i]).toBeCloseTo(t, 3);
    const sigma = of('init_noise_sigma').item();
    expect(Math.abs(sampler.initNoiseSigma / sigma - 1)).toBeLessThan(1e-6);

    let drawn = 0;
    const noise = () => of('variance_noise').select(0, drawn++);
    let x = of('initial').mul(sampler.initNoiseSigma);
    expectAllclose(x, of('samples').select(0, 0), 1e-6);
    for (const [i, t] of sampler.timesteps.entries()) {
      const input = sampler.scaleModelInput(x, t);
      if (expected.has('scaled_model_inputs'))
        expectAllclose(input, of('scaled_model_inputs').select(0, i), 1e-5);
      const output = input.mul(0.3).add((0.01 * t) / 1000);
      x = sampler.step(output, t, x, noise);
      expectAllclose(x, of('samples').select(0, i + 1), 1e-5);
    }
  });
});
