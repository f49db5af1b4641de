/** @file The timesteps of every sampler, spacing and number of steps, against those that diffusers makes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { golden, readGolden } from '../../test/golden.js';
import { randn, type Tensor, tidy } from '../torch/index.js';
import { parseSchedulerConfig } from './config.js';
import { createSampler, samplerClasses } from './create.js';
import type { Sampler } from './sampler.js';

interface Row {
  _class_name: string;
  timestep_spacing: string;
  /** The key that is set to true, such as use_karras_sigmas. */
  sigmas: string | null;
  steps: 'all' | 'some';
  /** The tensor of the checksums, one for each number of steps. */
  series: string;
}

const folder = golden('schedulers_timesteps') as string;
const { config, index } = JSON.parse(gunzipSync(readFileSync(join(folder, 'index.json.gz'))).toString()) as {
  config: object;
  index: Row[];
};
const recorded = new Map(
  Array.from(readGolden(join(folder, 'timesteps.safetensors')), ([key, tensor]) => [key, tensor.toNumbers()]),
);
const rows = index.filter((row) => samplerClasses.some((one) => one === row._class_name));

function samplerOf({ _class_name, timestep_spacing, sigmas }: Row): Sampler {
  const change = sigmas === null ? {} : { [sigmas]: true };
  const json = { ...config, _class_name, timestep_spacing, ...change };
  return createSampler(parseSchedulerConfig(JSON.stringify(json), 'config.json'));
}

/** As tools/golden/scheduler_timesteps.py computes it. */
function checksum(timesteps: readonly number[]): number {
  const phi = (Math.sqrt(5) - 1) / 2;
  return timesteps.reduce((sum, t, i) => sum + (t + 1) * (i % 2 === 0 ? 1 : -1) * (1 + ((i * phi) % 1)), 0);
}

describe('timesteps are those of diffusers', () => {
  it('has every class', () => {
    expect(new Set(rows.map((row) => row._class_name))).toEqual(new Set(samplerClasses));
  });

  it.each(rows)('$_class_name $timestep_spacing $sigmas', (row) => {
    using sampler = samplerOf(row);
    const sums = recorded.get(row.series) as number[];
    const wrong = (recorded.get(`steps.${row.steps}`) as number[]).flatMap((steps, i) => {
      const expected = sums[i] as number;
      if (Number.isNaN(expected)) {
        expect(() => sampler.setTimesteps(steps)).toThrow(/Expected at most/);
        return [];
      }
      sampler.setTimesteps(steps);
      const actual = checksum(sampler.timesteps);
      return Math.abs(actual - expected) < 0.1 ? [] : [{ steps, actual, expected }];
    });
    expect(wrong).toEqual([]);
  });
});

describe('every number of steps walks', () => {
  const start = randn([1, 1, 1, 2]);
  const plain = rows.filter((row) => row.sigmas === null);

  // Those that call the model between two levels as well are recorded for some numbers of steps.
  it.each(plain.filter((row) => row.steps === 'some'))(
    '$_class_name $timestep_spacing calls at the timesteps of Euler, and between them',
    (row) => {
      const euler = plain.find(
        ({ _class_name, timestep_spacing }) =>
          _class_name === 'EulerDiscreteScheduler' && timestep_spacing === row.timestep_spacing,
      ) as Row;
      using sampler = samplerOf(row);
      for (const [i, expected] of (recorded.get(euler.series) as number[]).entries()) {
        sampler.setTimesteps(i + 1);
        expect(sampler.timesteps).toHaveLength(2 * i + 1);
        const [first, second] = [0, 1].map((k) => sampler.timesteps.filter((_, j) => j % 2 === k));
        expect(Math.abs(checksum(first as number[]) - expected), `${i + 1} steps`).toBeLessThan(0.1);
        const isBetween = second?.every(
          (t, j) => t <= (first?.[j] as number) && t >= (first?.[j + 1] as number),
        );
        expect(isBetween || row._class_name.includes('Ancestral'), `${i + 1} steps`).toBe(true);
      }
    },
  );

  it.each(plain)('$_class_name $timestep_spacing', (row) => {
    using sampler = samplerOf(row);
    const sums = recorded.get(row.series) as number[];
    const refused = row.steps === 'all' ? sums.findIndex(Number.isNaN) : -1;
    const most = refused === -1 ? 1000 : refused;
    for (const steps of [...Array.from({ length: 31 }, (_, i) => i + 1), 48, 61, 100, 501, 1000])
      if (steps <= most) expect(walk(sampler, steps).every(Number.isFinite), `${steps} steps`).toBe(true);
  });

  /** Walks with a model that predicts a tenth of what it sees. */
  function walk(sampler: Sampler, steps: number): number[] {
    sampler.setTimesteps(steps);
    return tidy(() => {
      let x: Tensor = start.mul(sampler.initNoiseSigma);
      for (const t of sampler.timesteps) {
        const next = sampler.step(sampler.scaleModelInput(x, t).mul(0.1), t, x, () => start);
        x.dispose();
        x = next;
      }
      return x.toNumbers();
    });
  }
});
