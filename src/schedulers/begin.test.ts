/** Walks that begin late, from an image with noise, and keep a part of it: what image-to-image and inpainting need of samplers. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { wavyModel } from '../../test/wavy-model.js';
import { memoryStats, type Tensor, tidy, zeros } from '../torch/index.js';
import { parseSchedulerConfig } from './config.js';
import { createSampler, samplerClasses } from './create.js';

/** Of tools/golden/scheduler_begin.py: class, options, and pairs of steps and those left out. */
type Row = [className: string, options: Record<string, unknown>, walks: [steps: number, leftOut: number][]];

const folder = golden('schedulers_begin') as string;
const { config, index } = JSON.parse(gunzipSync(readFileSync(join(folder, 'index.json.gz'))).toString()) as {
  config: object;
  index: Row[];
};
const recorded = readGolden(join(folder, 'walks.safetensors'));
const of = (key: string) => recorded.get(key) as Tensor;
const cases = index.map(([_class_name, options, walks], i) => ({
  title: `${_class_name} ${JSON.stringify(options)}`,
  text: JSON.stringify({ ...config, ...options, _class_name }),
  walks,
  /** The place of its first walk among all. */
  first: index.slice(0, i).reduce((sum, row) => sum + row[2].length, 0),
}));

describe('samplers begin late as in diffusers', () => {
  it('has walks of every class', () => {
    expect(new Set(index.map(([name]) => name))).toEqual(new Set(samplerClasses));
  });

  it.each(cases)('$title', ({ text, walks, first }) => {
    using sampler = createSampler(parseSchedulerConfig(text, 'config.json'));
    const [image, noise, mask] = [of('image'), of('noise'), of('mask')];
    for (const [i, [steps, leftOut]] of walks.entries()) {
      const before = memoryStats().liveTensors;
      sampler.setTimesteps(steps);
      const begin = leftOut * sampler.order;
      sampler.beginAt(begin);
      let drawn = 0;
      const draw = () => of('draws').select(0, drawn++);
      let x = sampler.addNoiseAt(begin, image, noise);
      const sum = zeros(x.shape, target);
      for (const [call, t] of sampler.timesteps.entries()) {
        if (call < begin) continue;
        const output = tidy(() => wavyModel(sampler.scaleModelInput(x, t), t));
        const next = sampler.step(output, t, x, draw);
        for (const old of [output, x]) old.dispose();
        x = next;
        if (call + 1 < sampler.timesteps.length) {
          x = tidy(() => {
            const kept = sampler.addNoiseAt(call + 1, image, noise);
            return mask.neg().add(1).mul(kept).add(mask.mul(next));
          });
          next.dispose();
        }
        tidy(() => {
          sum.add_(x);
        });
      }
      const mean = 1 / (sampler.timesteps.length - begin);
      tidy(() => expectAllclose(sum.mul(mean), of('samples').select(0, first + i), 1e-4));
      sum.dispose();
      x.dispose();
      expect(memoryStats().liveTensors - before, 'tensors that the sampler kept').toBe(0);
    }
  });
});
