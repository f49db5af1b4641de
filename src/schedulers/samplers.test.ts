import { describe, expect, it } from 'vitest';
import { expectAllclose } from '../../test/golden.js';
import { ConfigError } from '../base/errors.js';
import { Generator, memoryStats, randn, type Tensor, tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import { parseSchedulerConfig, type SamplerName, type SchedulerFile, samplerNames } from './config.js';
import { createSampler } from './create.js';
import { readDDIM } from './ddim.js';
import { type Sampler, spacedTimesteps } from './sampler.js';
import { trainedSigmas } from './sigmas.js';

const sd15 = {
  _class_name: 'PNDMScheduler',
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  clip_sample: false,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
};
const parse = (change: object = {}) =>
  parseSchedulerConfig(JSON.stringify({ ...sd15, ...change }), 'config.json');

const { config } = parse();

const generator = new Generator('cpu', 1);
const x0 = randn([1, 4, 3, 5], { generator });
const start = randn([1, 4, 3, 5], { generator });

/** Walks with a model that knows the image, x0. */
function walk(name: SamplerName, change: object, steps: number): Tensor {
  const file = parse(change);
  return walkOf(file, createSampler(file, name), steps);
}

function walkOf({ config }: SchedulerFile, sampler: Sampler, steps: number): Tensor {
  using _ = sampler;
  const bars = alphasCumprodOf(config).toNumbers();
  const noiseGenerator = new Generator('cpu', 2);
  const noise = () => randn(x0.shape, { generator: noiseGenerator });
  sampler.setTimesteps(steps);
  let x = start.mul(sampler.initNoiseSigma);
  for (const t of sampler.timesteps) {
    const input = sampler.scaleModelInput(x, t);
    const [low, high] = [bars[Math.floor(t)] as number, bars[Math.ceil(t)] as number];
    const bar = low + (high - low) * (t - Math.floor(t));
    const [signal, rest] = [Math.sqrt(bar), Math.sqrt(1 - bar)];
    const epsilon = input.add(x0, -signal).mul(1 / rest);
    const velocity = epsilon.mul(signal).add(x0, -rest);
    x = sampler.step(config.prediction_type === 'epsilon' ? epsilon : velocity, t, x, noise);
  }
  return x;
}

describe.each(samplerNames)('%s', (name) => {
  it.each(['leading', 'linspace', 'trailing'])(
    'finds the image that the model knows, %s',
    (timestep_spacing) => {
      // What is left is the noise of timestep 0, 3 % of a standard deviation, and the error of the method.
      for (const prediction_type of ['epsilon', 'v_prediction'])
        expectAllclose(walk(name, { timestep_spacing, prediction_type }, 20), x0, 0.06);
    },
  );

  it('walks the same way for noise and velocity', () => {
    // It mixes the outputs of several timesteps, and velocities mix otherwise.
    if (name === 'pndm') return;
    for (const steps of [1, 2, 7, 20]) {
      const noise = walk(name, { prediction_type: 'epsilon' }, steps);
      // The solvers cut off the fractions of timesteps between their levels, which the two feel differently.
      const tolerance = /-(exponential|beta)$/.test(name) ? 1e-2 : 1e-3;
      expectAllclose(walk(name, { prediction_type: 'v_prediction' }, steps), noise, tolerance);
    }
  });

  it('begins anew with setTimesteps, and keeps nothing after its last step', () => {
    const before = memoryStats().liveTensors;
    tidy(() => {
      using sampler = createSampler(parse(), name);
      const finish = (steps: number, calls: number) => {
        sampler.setTimesteps(steps);
        let x = start;
        for (const t of sampler.timesteps.slice(0, calls)) x = sampler.step(x.mul(0.1), t, x, () => start);
        return x;
      };
      const expected = finish(6, 9);
      finish(6, 4);
      expectAllclose(finish(6, 9), expected, 0);
    });
    expect(memoryStats().liveTensors).toBe(before);
  });
});

describe('pure noise at the start', () => {
  const zeroSnr = {
    rescale_betas_zero_snr: true,
    prediction_type: 'v_prediction',
    timestep_spacing: 'trailing',
  };
  const able = samplerNames.filter((name) => name !== 'pndm');
  it.each(able)('%s finds the image all the same', (name) => {
    expectAllclose(walk(name, zeroSnr, 20), x0, 0.06);
  });

  it.each([
    ['pndm', zeroSnr],
    ...(['ddim', 'ddpm', 'lcm', 'tcd'] as const).map(
      (name) => [name, { ...zeroSnr, prediction_type: 'epsilon' }] as const,
    ),
  ] as const)('%s says that it cannot', (name, change) => {
    expect(() => createSampler(parse(change), name)).toThrow(
      /cannot start from the pure noise .* choose --scheduler euler/,
    );
  });
});

describe('the choice', () => {
  it('is the class that the config names, or the name', () => {
    expect(createSampler(parse()).constructor.name).toBe('PNDMScheduler');
    expect(createSampler(parse({ _class_name: 'EulerDiscreteScheduler' })).constructor.name).toBe(
      'EulerDiscreteScheduler',
    );
    expect(createSampler(parse(), 'ddim').constructor.name).toBe('DDIMScheduler');
  });

  it('names what there is where the config names another', () => {
    expect(() => createSampler(parse({ _class_name: 'IPNDMScheduler' }))).toThrow(
      /one of DDIMScheduler, .* received IPNDMScheduler; choose a sampler with --scheduler: ddim, ddpm, pndm/,
    );
  });
});

describe('the config', () => {
  it('leaves keys that nobody set to each class', () => {
    const change = { timestep_spacing: 'leading', _use_default_values: ['timestep_spacing'] };
    expect(readDDIM(parse(change)).timestep_spacing).toBeUndefined();
  });

  it('may hold -Infinity, as Python writes it', () => {
    const text = JSON.stringify({ ...sd15, lambda_min_clipped: 0 }).replace(
      '"lambda_min_clipped":0',
      '"lambda_min_clipped": -Infinity',
    );
    expect(parseSchedulerConfig(text, 'config.json').config.beta_start).toBe(0.00085);
  });

  it.each([
    ['ddim', { thresholding: true }, /false for thresholding in config.json but received true/],
    ['unipc', { solver_order: 4 }, /one of 1, 2, 3 for solver_order/],
    ['unipc', { solver_p: { _class_name: 'DDIMScheduler' } }, /null for solver_p/],
    ['unipc', { disable_corrector: [0] }, /\[\] for disable_corrector/],
    ['deis', { use_flow_sigmas: true }, /false for use_flow_sigmas/],
    ['heun', { sigma_max: -1 }, /above 0 for sigma_max/],
    [
      'lms',
      { use_karras_sigmas: true, use_beta_sigmas: true },
      /false beside use_karras_sigmas for use_beta_sigmas/,
    ],
    ['euler', { timestep_spacing: 'random' }, /one of leading, linspace, trailing/],
    ['euler', { timestep_type: 'random' }, /one of discrete, continuous for timestep_type/],
    ['euler', { interpolation_type: 'log_linear' }, /linear for interpolation_type/],
    ['pndm', { skip_prk_steps: false }, /true for skip_prk_steps/],
    ['ddpm', { clip_sample_range: -1 }, /above 0 for clip_sample_range/],
    ['dpmpp-2m', { lambda_min_clipped: -5 }, /-Infinity for lambda_min_clipped/],
  ] as const)('refuses for %s %j', (name, change, message) => {
    expect(() => createSampler(parse(change), name)).toThrow(ConfigError);
    expect(() => createSampler(parse(change), name)).toThrow(message);
  });

  it('is checked for the keys of the chosen sampler alone', () => {
    const others = { algorithm_type: 'deis', solver_type: 'logrho', solver_order: 7, skip_prk_steps: false };
    const file = parse({ ...others, thresholding: true, lambda_min_clipped: -5, variance_type: 'learned' });
    expect(createSampler(file, 'euler').constructor.name).toBe('EulerDiscreteScheduler');
    const euler = parse({ interpolation_type: 'log_linear', timestep_type: 7, use_beta_sigmas: 7 });
    for (const name of ['ddim', 'pndm', 'ddpm'] as const) createSampler(euler, name);
  });

  it('yields to what the name says', () => {
    const change = { algorithm_type: 'dpmsolver', solver_order: 7, use_beta_sigmas: true };
    expectAllclose(walk('dpmpp-2m-karras', change, 5), walk('dpmpp-2m-karras', {}, 5), 0);
    const own = { algorithm_type: 'sde-dpmsolver++', solver_order: 3 };
    const file = parse({ ...own, _class_name: 'DPMSolverMultistepScheduler' });
    expectAllclose(walk('dpmpp-3m-sde', {}, 5), walkOf(file, createSampler(file), 5), 0);
  });

  it('says which algorithm is supported', () => {
    const file = parse({ _class_name: 'DPMSolverMultistepScheduler', algorithm_type: 'dpmsolver' });
    expect(() => createSampler(file)).toThrow(
      /one of dpmsolver\+\+, sde-dpmsolver\+\+, deis for algorithm_type/,
    );
  });
});

describe('spacedTimesteps', () => {
  it('as table 2 of Lin et al. 2023 has them', () => {
    expect(spacedTimesteps('leading', 10, { ...config, steps_offset: 0 })).toEqual([
      900, 800, 700, 600, 500, 400, 300, 200, 100, 0,
    ]);
    expect(spacedTimesteps('linspace', 10, config)).toEqual([999, 888, 777, 666, 555, 444, 333, 222, 111, 0]);
    expect(spacedTimesteps('trailing', 10, config)).toEqual([
      999, 899, 799, 699, 599, 499, 399, 299, 199, 99,
    ]);
  });

  it('gives as many as asked for', () => {
    for (const spacing of ['leading', 'linspace', 'trailing'] as const)
      for (let steps = 1; steps <= 1000; steps++)
        expect(spacedTimesteps(spacing, steps, config)).toHaveLength(steps);
  });

  it.each(samplerNames)('%s refuses more steps than the model was trained on', (name) => {
    const sampler = createSampler(parse(), name);
    // Distilled models know 50 timesteps.
    expect(() => sampler.setTimesteps(1001)).toThrow(/Expected at most (1000|50) steps, .* received 1001/);
  });
});

describe.each(['lcm', 'tcd'] as const)('%s', (name) => {
  it('takes as many steps as the model was distilled with', () => {
    const sampler = createSampler(parse({ original_inference_steps: 10 }), name);
    sampler.setTimesteps(10);
    expect(sampler.timesteps).toEqual([999, 899, 799, 699, 599, 499, 399, 299, 199, 99]);
    expect(() => sampler.setTimesteps(11)).toThrow(/at most 10 steps, the original_inference_steps/);
    const file = parse({ original_inference_steps: 1001 });
    expect(() => createSampler(file, name).setTimesteps(1)).toThrow(/at most 1000, .* but received 1001/);
  });
});

describe('Euler', () => {
  it('begins at the last trained timestep exactly, in any number of steps', () => {
    using sampler = createSampler(parse(), 'euler');
    for (let steps = 2; steps <= 1000; steps++) {
      sampler.setTimesteps(steps);
      expect([sampler.timesteps[0], sampler.timesteps.at(-1)]).toEqual([999, 0]);
    }
  });

  it('ends at the least trained level where the config says so', () => {
    const ends = (final_sigmas_type: string) => {
      using sampler = createSampler(parse({ final_sigmas_type }), 'euler');
      sampler.setTimesteps(1);
      return sampler.step(start, 999, start, () => start).toNumbers();
    };
    // One step of x + (σ_last − σ)·output.
    const least = trainedSigmas(config)[0] as number;
    const difference = ends('sigma_min').map((x, i) => x - (ends('zero')[i] as number));
    expect(difference[3]).toBeCloseTo((start.toNumbers()[3] as number) * least, 5);
  });

  it('calls a model of velocity with ¼·log σ where the config says continuous', () => {
    const timesteps = (prediction_type: string) => {
      const file = parse({ timestep_type: 'continuous', prediction_type });
      using sampler = createSampler(file, 'euler');
      sampler.setTimesteps(2);
      return sampler.timesteps;
    };
    expect(timesteps('epsilon')).toEqual([999, 0]);
    const sigmas = trainedSigmas(config);
    expect(timesteps('v_prediction')).toEqual([999, 0].map((t) => 0.25 * Math.log(sigmas[t] as number)));
  });
});

describe('DDPM', () => {
  it.each(['linspace', 'trailing', 'leading'] as const)(
    'steps to the next timestep of the list, %s',
    (spacing) => {
      // With clamped x0 = 0 the step is x · √(ᾱ/ᾱ')·(1−ᾱ')/(1−ᾱ), formula 7.
      const bars = alphasCumprodOf(config).toNumbers();
      using sampler = createSampler(
        parse({ timestep_spacing: spacing, clip_sample_range: 1e-9, clip_sample: true }),
        'ddpm',
      );
      sampler.setTimesteps(7);
      for (const [i, t] of sampler.timesteps.entries()) {
        const next = sampler.timesteps[i + 1];
        const [bar, nextBar] = [bars[t] as number, next === undefined ? 1 : (bars[next] as number)];
        const expected = start.mul((Math.sqrt(bar / nextBar) * (1 - nextBar)) / (1 - bar));
        const actual = sampler.step(start, t, start, () => start.mul(0));
        expect(actual.sub(expected).abs().max().item()).toBeLessThan(1e-5);
      }
    },
  );
});

describe('DPM-Solver++', () => {
  it('ends without noise, unless final_sigmas_type says otherwise', () => {
    // The model sees the image in the noise: only a last step to σ = 0 arrives at it exactly.
    const distance = (change: object) => walk('dpmpp-2m', change, 20).sub(x0).abs().max().item();
    expect(distance({})).toBeLessThan(1e-3);
    expect(distance({ final_sigmas_type: 'zero' })).toBe(distance({}));
    expect(distance({ final_sigmas_type: 'sigma_min' })).toBeGreaterThan(1e-2);
  });
});
