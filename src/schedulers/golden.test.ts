import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, goldenFolders, readGolden } from '../../test/golden.js';
import { wavyModel } from '../../test/wavy-model.js';
import type { Tensor } from '../torch/index.js';
import { parseSchedulerConfig } from './config.js';
import { createSampler, samplerClasses } from './create.js';

interface Recorded {
  num_inference_steps: number;
  step_kwargs: { eta?: number };
  scheduler_config: { _class_name?: string };
}

interface Walk {
  name: string;
  folder: string;
  settings: Recorded;
}

/** Every recorded walk in folders of that name: `name.json` with its settings beside `name.safetensors`. */
function walksIn(name: string): Walk[] {
  return goldenFolders(name).flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => file.endsWith('.json'))
      .map((file) => {
        // Python's JSON has -Infinity.
        const text = readFileSync(join(folder, file), 'utf8').replaceAll('-Infinity', '-1e999');
        const settings = JSON.parse(text) as Partial<Recorded>;
        return { name: file.slice(0, -'.json'.length), folder, settings };
      })
      .filter((walk): walk is Walk => walk.settings.num_inference_steps !== undefined),
  );
}

/** @param model what was recorded as the model: from its input at timestep t, call by call */
function expectSameWalk(
  { name, folder, settings }: Walk,
  change: object,
  model: (input: Tensor, t: number) => Tensor,
): void {
  const { num_inference_steps: steps, step_kwargs, scheduler_config } = settings;
  const text = JSON.stringify({ ...change, ...scheduler_config }, (key, value) =>
    key === 'lambda_min_clipped' ? undefined : value,
  );
  using sampler = createSampler(parseSchedulerConfig(text, `${name}.json`), undefined, step_kwargs);
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
    x = sampler.step(model(input, t), t, x, noise);
    expectAllclose(x, of('samples').select(0, i + 1), 1e-5);
  }
}

describe('samplers walk as diffusers 0.22', () => {
  const walks = walksIn('schedulers');

  it('has recorded walks of every class', () => {
    const classes = ['ddim', 'pndm', 'euler', 'dpmpp2m', 'dpmpp2m_karras', 'ddpm'];
    const names = walks.map(({ name }) => name.replace(/_\d+$/, ''));
    expect(names).toEqual(expect.arrayContaining(classes));
  });

  it.each(walks)('$folder/$name', (walk) => {
    // Its DPM-Solver++ always ended at the least trained level.
    const change = walk.name.startsWith('dpmpp') ? { final_sigmas_type: 'sigma_min' } : {};
    expectSameWalk(walk, change, (input, t) => input.mul(0.3).add((0.01 * t) / 1000));
  });
});

const walks2 = walksIn('schedulers2');

describe.skipIf(walks2.length === 0)("samplers walk as today's diffusers (needs ../shared)", () => {
  it('has recorded walks of every class but those of the first set', () => {
    const names = walks2.map(({ settings }) => settings.scheduler_config._class_name);
    const first = ['PNDMScheduler', 'DDPMScheduler'];
    expect(new Set(names)).toEqual(new Set(samplerClasses.filter((name) => !first.includes(name))));
    expect(names).toHaveLength(31);
  });

  it.each(walks2)('$name', (walk) => {
    expectSameWalk(walk, {}, wavyModel);
  });
});

/** The walks of tools/golden/scheduler_walks.py: class, options, and several numbers of steps. */
type OptionsRow = [className: string, options: Record<string, unknown>, steps: number[]];

describe('samplers follow the options of a config as diffusers', () => {
  const folder = golden('schedulers_walks') as string;
  const { config, index } = JSON.parse(
    gunzipSync(readFileSync(join(folder, 'index.json.gz'))).toString(),
  ) as { config: object; index: OptionsRow[] };
  const recorded = readGolden(join(folder, 'walks.safetensors'));
  const of = (key: string) => recorded.get(key) as Tensor;
  const cases = index.map(([_class_name, options, steps], i) => ({
    title: `${_class_name} ${JSON.stringify(options)}`,
    text: JSON.stringify({ ...config, ...options, _class_name }),
    steps,
    /** The place of its first walk among all. */
    first: index.slice(0, i).reduce((sum, row) => sum + row[2].length, 0),
    // Zero SNR is a level of 4096: of float32's digits few are left of the image.
    tolerance: options.rescale_betas_zero_snr ? 2e-3 : 1e-4,
  }));

  it.each(cases)('$title', ({ text, steps, first, tolerance }) => {
    using sampler = createSampler(parseSchedulerConfig(text, 'config.json'));
    for (const [i, count] of steps.entries()) {
      sampler.setTimesteps(count);
      let drawn = 0;
      const noise = () => of('draws').select(0, drawn++);
      let x = of('initial').mul(sampler.initNoiseSigma);
      for (const t of sampler.timesteps)
        x = sampler.step(wavyModel(sampler.scaleModelInput(x, t), t), t, x, noise);
      expectAllclose(x, of('samples').select(0, first + i), tolerance);
    }
  });
});
