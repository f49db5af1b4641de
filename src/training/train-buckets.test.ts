import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, stretchImages, type World } from '../../test/e2e/world.js';
import { Recorder } from '../../test/recorder.js';
import { train } from './train.js';

const SAMPLE_IMAGES = 11;
/** Of the first five images; the others are squares. Two tall ones, two wide ones and seven squares make 1 + 1 + 4 batches of two. */
const SIZES: readonly [number, number][] = [
  [40, 80],
  [80, 46],
  [70, 70],
  [45, 90],
  [120, 70],
];
const STEPS_PER_EPOCH = 6;

let world: World;
beforeAll(async () => {
  world = await makeWorld(SAMPLE_IMAGES);
  await stretchImages(world, SIZES);
});
afterAll(() => world.remove());
const at = (...names: string[]): string => join(world.root, ...names);

interface Run {
  losses: number[];
  told: string[];
  step: number;
}

async function run(name: string, options: Record<string, unknown> = {}): Promise<Run> {
  const { losses, messages: told, onEvent } = new Recorder();
  const { step } = await train(
    {
      ...world.optionsFor(name),
      cacheDir: at('cache'),
      batchSize: 2,
      epochs: 2,
      learningRate: 1e-3,
      buckets: true,
      randomFlip: true,
      seed: 4,
      ...options,
    },
    { onEvent },
  );
  return { losses, told, step };
}

const adapterOf = (name: string, step: number): Buffer =>
  readFileSync(at(name, `checkpoint-${step}`, 'ip_adapter.safetensors'));

describe('training in buckets, with mirrored images', () => {
  it('takes the steps that the buckets need, and goes on to the bit from every one of them', async () => {
    const whole = await run('whole', { saveSteps: 1 });
    expect(whole.told).toContain('Buckets: 32x64: 2, 64x64: 7, 80x48: 2');
    expect(whole.step).toBe(2 * STEPS_PER_EPOCH);
    expect(whole.losses.every(Number.isFinite)).toBe(true);
    for (let step = 1; step < whole.step; step++) {
      const rest = await run(`from ${step}`, { resume: at('whole', `checkpoint-${step}`) });
      expect(rest.losses, `from step ${step}`).toEqual(whole.losses.slice(step));
      expect(adapterOf(`from ${step}`, whole.step).equals(adapterOf('whole', whole.step))).toBe(true);
    }
  });

  it('has other losses than squares, and than images that are never mirrored', async () => {
    const { losses } = await run('both', { maxSteps: 4 });
    const without = [{ buckets: false }, { randomFlip: false }, { buckets: false, randomFlip: false }];
    for (const [i, options] of without.entries())
      expect((await run(`without ${i}`, { ...options, maxSteps: 4 })).losses).not.toEqual(losses);
  });

  it('has the same losses from a cache, which keeps each image in its size, mirrored and not', async () => {
    const without = await run('uncached');
    const latents = await run('cached latents', { cache: 'latents,text' });
    const whole = await run('cached', { cache: 'latents,text,image' });
    expect(latents.told).toContain(`Cache of latents: complete, ${2 * SAMPLE_IMAGES} newly encoded`);
    expect(whole.told).toContain('Cache of latents: complete, 0 newly encoded');
    // And the encoding of no image.
    expect(whole.told).toContain(
      `Cache of image: complete, ${2 * SAMPLE_IMAGES} newly encoded and 1 for what is dropped`,
    );
    for (const [cached, tolerance] of [
      [latents, 1e-5],
      [whole, 2e-3],
    ] as const)
      for (const [i, loss] of without.losses.entries())
        expect(Math.abs((cached.losses[i] as number) / loss - 1), `step ${i}`).toBeLessThan(tolerance);
    const again = await run('cached again', { cache: 'latents,text,image' });
    expect(again.losses).toEqual(whole.losses);
  });

  it('keeps the entries of another choice of buckets and mirroring', async () => {
    const count = async (options: Record<string, unknown>): Promise<string> => {
      const { told } = await run(`choice ${Math.random()}`, {
        cache: 'latents',
        maxSteps: 1,
        ...options,
      });
      return told.find((message) => message.startsWith('Cache of latents: complete')) as string;
    };
    rmSync(at('cache'), { recursive: true, force: true });
    expect(await count({ randomFlip: false })).toContain(`${SAMPLE_IMAGES} newly`);
    expect(await count({})).toContain(`${SAMPLE_IMAGES} newly`);
    expect(await count({ buckets: false, randomFlip: false })).toContain(`${SAMPLE_IMAGES} newly`);
    // Another resolution has another table; 4 latents to the side.
    expect(await count({ resolution: 32 })).toContain(`${2 * SAMPLE_IMAGES} newly`);
    expect(await count({})).toContain(' 0 newly');
  });

  it('skips a row whose header, or whose pixels, cannot be read', async () => {
    const own = await makeWorld(SAMPLE_IMAGES);
    try {
      await stretchImages(own, SIZES);
      writeFileSync(join(own.root, 'images', '0.png'), 'no header');
      const wide = readFileSync(join(own.root, 'images', '1.png'));
      writeFileSync(join(own.root, 'images', '1.png'), wide.subarray(0, -40));
      const data = { dataset: join(own.root, 'data.json'), datasetRoot: join(own.root, 'images') };
      const { told, losses } = await run('bad', { ...data, epochs: 1 });
      expect(told).toContain('Buckets: 32x64: 1, 64x64: 8, 80x48: 2');
      expect(told.filter((message) => message.startsWith('Skipped')).sort()).toEqual([
        expect.stringMatching(/0\.png: it is not a JPEG/),
        expect.stringMatching(/1\.png: it is damaged/),
      ]);
      expect(losses.length).toBeGreaterThanOrEqual(6);
      const cached = await run('bad cached', { ...data, epochs: 1, cache: 'latents' });
      for (const [i, loss] of losses.entries())
        expect(Math.abs((cached.losses[i] as number) / loss - 1)).toBeLessThan(1e-5);
    } finally {
      own.remove();
    }
  });

  it('refuses to go on with another choice of either', async () => {
    await run('bound', { maxSteps: 1 });
    const again = { resume: true, maxSteps: 2 };
    await expect(run('bound', { ...again, buckets: false })).rejects.toThrow(/--buckets is false but .*true/);
    await expect(run('bound', { ...again, randomFlip: false })).rejects.toThrow(/--random-flip is false/);
    await expect(run('text', { buckets: 'yes' })).rejects.toThrow(
      /^buckets is "yes"; it must be true or false$/,
    );
  });
});
