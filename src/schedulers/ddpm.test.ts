import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { ConfigError } from '../base/errors.js';
import { DDPMScheduler } from './ddpm.js';

const folder = mkdtempSync(join(tmpdir(), 'ddpm-'));
afterAll(() => rmSync(folder, { recursive: true }));

function withConfig(config: unknown): DDPMScheduler {
  writeFileSync(join(folder, 'scheduler_config.json'), JSON.stringify(config));
  return DDPMScheduler.fromConfig(folder, target.device);
}

describe('SD1.5', () => {
  const expected = readGolden(golden('schedulers/formulas_sd15.safetensors')!);
  const of = (name: string) => expected.get(name)!;
  const scheduler = DDPMScheduler.fromConfig(golden('schedulers/sd15_scheduler_config.json')!, target.device);

  it('computes the betas of training from a config that names PNDM', () => {
    expect(scheduler.numTrainTimesteps).toBe(1000);
    expectAllclose(scheduler.alphasCumprod, of('alphas_cumprod'), 1e-7);
  });

  it('adds noise', () => {
    expectAllclose(scheduler.addNoise(of('latents'), of('noise'), of('timesteps')), of('add_noise'), 1e-6);
  });

  it('computes velocity', () => {
    expectAllclose(scheduler.getVelocity(of('latents'), of('noise'), of('timesteps')), of('velocity'), 1e-6);
  });

  it('keeps half precision, as autocast training needs', () => {
    const [latents, noise] = [of('latents').to('bfloat16'), of('noise').to('bfloat16')];
    expect(scheduler.addNoise(latents, noise, of('timesteps')).dtype).toBe('bfloat16');
  });

  it('takes the noise as target for epsilon and the velocity for v_prediction', () => {
    const inputs = [of('latents'), of('noise'), of('timesteps')] as const;
    expect(scheduler.target(...inputs)).toBe(of('noise'));
    const velocity = withConfig({ ...scheduler.config, prediction_type: 'v_prediction' });
    expectAllclose(velocity.target(...inputs), of('velocity'), 1e-6);
  });
});

describe('other beta schedules', () => {
  // Values of the same formulas in float64.
  const product = (betas: number[]) =>
    betas.map((_, i) => betas.slice(0, i + 1).reduce((bar, beta) => bar * (1 - beta), 1));
  const close = (scheduler: DDPMScheduler, bars: number[]) => {
    const actual = scheduler.alphasCumprod.toNumbers();
    expect(actual).toHaveLength(bars.length);
    for (const [i, bar] of bars.entries()) expect(actual[i]).toBeCloseTo(bar, 6);
  };
  const linear = [0.1, 0.2, 0.3, 0.4, 0.5];

  it('linear', () => {
    close(
      withConfig({ beta_schedule: 'linear', beta_start: 0.1, beta_end: 0.5, num_train_timesteps: 5 }),
      product(linear),
    );
  });

  it('trained betas', () => {
    close(withConfig({ trained_betas: [0.5, 0.25], num_train_timesteps: 2 }), [0.5, 0.375]);
  });

  it('squaredcos_cap_v2: a squared cosine, with the last beta capped', () => {
    const bar = (t: number) =>
      Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2 / Math.cos((0.008 / 1.008) * (Math.PI / 2)) ** 2;
    const bars = [bar(0.25), bar(0.5), bar(0.75), bar(0.75) * 0.001];
    close(withConfig({ beta_schedule: 'squaredcos_cap_v2', num_train_timesteps: 4 }), bars);
  });

  it('rescaled to zero signal at the end, and unchanged at the start', () => {
    const config = { beta_schedule: 'linear', beta_start: 0.1, beta_end: 0.5, num_train_timesteps: 5 };
    const roots = product(linear).map(Math.sqrt);
    const [first, last] = [roots[0]!, roots[4]!];
    close(
      withConfig({ ...config, rescale_betas_zero_snr: true }),
      roots.map((root) => (((root - last) * first) / (first - last)) ** 2),
    );
  });
});

describe('faults', () => {
  const sane = { beta_schedule: 'scaled_linear', beta_start: 0.00085, beta_end: 0.012 };
  it.each([
    [
      { ...sane, beta_schedule: 'sigmoid' },
      /one of linear, scaled_linear, squaredcos_cap_v2 for beta_schedule in .*scheduler_config\.json but received "sigmoid"/,
    ],
    [{ ...sane, prediction_type: 'sample' }, /one of epsilon, v_prediction for prediction_type/],
    [{ ...sane, beta_start: '0.1' }, /a number between 0 and 1 for beta_start/],
    [{ ...sane, num_train_timesteps: 0 }, /for num_train_timesteps/],
    [{ ...sane, rescale_betas_zero_snr: 'yes' }, /true or false for rescale_betas_zero_snr/],
    [{ trained_betas: [0.1, 2] }, /for trained_betas/],
    [
      { trained_betas: [0.1, 0.2], num_train_timesteps: 3 },
      /2, the number of betas, for num_train_timesteps/,
    ],
    [{ _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 }, /for beta_schedule/],
    [[1], /JSON object/],
  ])('%j', (config, message) => {
    expect(() => withConfig(config)).toThrow(ConfigError);
    expect(() => withConfig(config)).toThrow(message);
  });

  it('a missing file and broken JSON', () => {
    expect(() => DDPMScheduler.fromConfig(join(folder, 'none'))).toThrow(/ENOENT/);
    writeFileSync(join(folder, 'broken.json'), '{');
    expect(() => DDPMScheduler.fromConfig(join(folder, 'broken.json'))).toThrow(/broken\.json.*JSON/s);
  });
});
