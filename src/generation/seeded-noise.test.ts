import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { golden } from '../../test/golden.js';
import { readSchedulerConfig } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import type { DType } from '../torch/index.js';
import { seededNoise } from './seeded-noise.js';

interface Case {
  pipeline: string;
  side: number;
  scheduler: { _class_name: string; timestep_spacing?: string };
  seeds: number[];
  steps: number;
  dtype: DType;
  sha256: string;
}

const { cases } = JSON.parse(readFileSync(golden('first_latents.json') as string, 'utf8')) as {
  cases: Case[];
};

describe('the first latents', () => {
  it.each(cases)(
    'equal those of $pipeline with $scheduler._class_name, seeds $seeds, $dtype, to the bit',
    ({ side, scheduler, seeds, steps, dtype, sha256 }) => {
      const folder = mkdtempSync(join(tmpdir(), 'first-latents-'));
      writeFileSync(join(folder, 'scheduler_config.json'), JSON.stringify(scheduler));
      const sampler = createSampler(readSchedulerConfig(folder));
      rmSync(folder, { recursive: true });
      sampler.setTimesteps(steps);
      const noise = seededNoise(seeds, [4, side / 8, side / 8], { device: 'cpu', dtype, noise: 'cpu' });
      const latents = noise().mul(sampler.initNoiseSigma).to(dtype);
      expect(createHash('sha256').update(latents.toBytes()).digest('hex')).toBe(sha256);
    },
  );

  it("are each image's own in a batch, and the generators go on", () => {
    const target = { device: 'cpu', dtype: 'float32', noise: 'cpu' } as const;
    const [batch, alone] = [seededNoise([3, 4], [4, 2, 3], target), seededNoise([4], [4, 2, 3], target)];
    for (const _ of [0, 1]) expect(batch().slice(0, 1).toBytes()).toEqual(alone().toBytes());
  });
});
