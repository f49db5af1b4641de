import { basename } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { ConfigError } from '../base/errors.js';
import type { PromptOptions } from '../options/generate-types.js';
import { memoryStats } from '../torch/index.js';
import { generate } from './generate.js';
import { IPAdapterPipeline } from './pipeline.js';
import { loadPipelineModels } from './pipeline-models.js';

let world: Adapted;
let both: IPAdapterPipeline;
const entries = () =>
  [world.adapter, world.base].map((adapter) => ({ adapter, imageEncoder: world.imageEncoder }));
beforeAll(async () => {
  world = await makeAdaptedWorld();
  both = await IPAdapterPipeline.load({ model: world.model, adapters: entries() });
});
afterAll(() => {
  both[Symbol.dispose]();
  world.remove();
});

const quick = { steps: 4, width: 64, height: 64, prompt: 'a' };
const drawn = async (pipeline: IPAdapterPipeline, options: PromptOptions): Promise<Uint8Array> => {
  const [image] = await pipeline.generate({ ...quick, ...options });
  return image?.data as Uint8Array;
};
const [plus, base] = [() => ({ images: [world.picture(0)] }), () => ({ images: [world.picture(3)] })];

describe('several adapters', () => {
  it('act together; with scale 0, or no images, one is as if it were not loaded, to the bit', async () => {
    const together = await drawn(both, { adapters: [plus(), base()] });
    for (const [i, entry] of entries().entries()) {
      using alone = await IPAdapterPipeline.load({ model: world.model, adapters: [entry] });
      const own = [plus(), base()][i] as { images: string[] };
      const expected = await drawn(alone, { ...own, scale: 0.8 });
      const others = [{ ...base(), scale: 0 }, {}];
      for (const other of others) {
        const adapters = i === 0 ? [{ ...own, scale: 0.8 }, other] : [other, { ...own, scale: 0.8 }];
        expect(await drawn(both, { adapters }), JSON.stringify(adapters)).toEqual(expected);
      }
      expect(together).not.toEqual(await drawn(alone, own));
    }
    expect(await drawn(both, {})).toEqual(await drawn(both, { adapters: [{}, {}] }));
  });

  it('act each in its own steps', async () => {
    const halves = await drawn(both, {
      adapters: [
        { ...plus(), range: [0, 0.5] },
        { ...base(), range: [0.5, 1] },
      ],
    });
    const swapped = await drawn(both, {
      adapters: [
        { ...plus(), range: [0.5, 1] },
        { ...base(), range: [0, 0.5] },
      ],
    });
    expect(halves).not.toEqual(swapped);
    // No step is within an empty range.
    const never = await drawn(both, { adapters: [plus(), { ...base(), range: [0.5, 0.5] }] });
    expect(never).toEqual(await drawn(both, { adapters: [plus(), {}] }));
  });

  it('have images of their own in each job', async () => {
    const jobs = [
      { adapters: [plus(), base()], seed: 0, prompt: 'a' },
      { adapters: [base(), plus()], seed: 0, prompt: 'a' },
    ];
    const adapters = [{ scale: 0.8 }, { scale: 0.5 }];
    const { prompt: _, ...settings } = quick;
    const images = await both.generateEach(jobs, { ...settings, adapters, batchSize: 1 });
    const [one, other] = images.map(({ data }) => data) as [Uint8Array, Uint8Array];
    const scaled = adapters.map(({ scale }, i) => ({ ...[plus(), base()][i], scale }));
    expect(one).toEqual(await drawn(both, { adapters: scaled }));
    expect(other).not.toEqual(one);
    const some = [...jobs, { adapters: [plus(), {}] }];
    await expect(both.generateEach(some, settings)).rejects.toThrow(/for every image, or for none/);
  });

  it('are all named in the text of the image', async () => {
    const { adapter = '' } = entries()[0] ?? {};
    const [image] = await generate({
      ...{ ...quick, model: world.model },
      adapters: [
        { ...entries()[0], ...plus(), adapter, scale: 0.5 },
        { ...entries()[1], ...base(), adapter: world.base, range: [0, 0.5] },
      ],
    });
    expect(image?.parameters).toContain(
      `IP-Adapter 1: ${basename(adapter)}, Image prompts 1: ${basename(world.picture(0))}, Image fit 1: crop, IP-Adapter 1 scale: 0.5, ` +
        'IP-Adapter 1 start: 0, IP-Adapter 1 end: 1, ' +
        `IP-Adapter 2: ${basename(world.base)}, Image prompts 2: ${basename(world.picture(3))}, Image fit 2: crop, IP-Adapter 2 scale: 1, ` +
        'IP-Adapter 2 start: 0, IP-Adapter 2 end: 0.5',
    );
    expect(both.summary.slice(0, 2)).toEqual([
      expect.stringContaining('IP-Adapter Plus'),
      expect.stringContaining('IP-Adapter (base)'),
    ]);
  });

  it('share an image encoder of one folder', () => {
    const sameFolder = entries().map((entry, i) => ({
      ...entry,
      imageEncoder: i === 0 ? entry.imageEncoder : `${entry.imageEncoder}/../image_encoder/`,
    }));
    using models = loadPipelineModels({ model: world.model, adapters: sameFolder });
    const [first, second] = models.adapters;
    expect(first?.imageEncoder).toBeDefined();
    expect(second?.imageEncoder).toBe(first?.imageEncoder);
  });

  it.each<[PromptOptions, RegExp]>([
    [{ adapters: [{}] }, /adapters has 1 entries for 2 loaded adapters; give one for each/],
    [{ scale: 0.5 }, /scale is for one adapter and 2 are loaded; give adapters/],
    [{ images: ['a.png'], weights: [1] }, /images, weights is for one adapter/],
  ])('refuse %j', async (options, message) => {
    await expect(drawn(both, options)).rejects.toThrow(ConfigError);
    await expect(drawn(both, options)).rejects.toThrow(message);
  });

  it('keep nothing in memory', async () => {
    await drawn(both, { adapters: [plus(), base()] });
    const before = memoryStats().liveTensors;
    await drawn(both, { adapters: [plus(), base()] });
    expect(memoryStats().liveTensors).toBe(before);
    using models = await IPAdapterPipeline.load({ model: world.model, adapters: entries() });
    models[Symbol.dispose]();
    expect(memoryStats().liveTensors).toBe(before);
  });
});
