/** @file Runs with varied references, masks, groups and several datasets: bit-exact resumes, and one loss however a batch is cut. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { shareOfMovement } from '../../test/distributed/runs.js';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { maskedRows } from '../../test/masked-rows.js';
import { checkDataset } from '../dataset-check/check-dataset.js';
import { train } from './train.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);

beforeAll(async () => {
  world = await makeWorld(12);
  const masked = await maskedRows(world, 2);
  writeFileSync(at('a.json'), JSON.stringify(masked.slice(0, 8)));
  writeFileSync(at('b.json'), JSON.stringify(masked.slice(8)));
});
afterAll(() => world.remove());

const options = (outputDir: string, maxSteps: number) => ({
  ...{ model: at('model'), imageEncoder: at('image_encoder') },
  ...{ dataset: [at('a.json'), at('b.json')], datasetRoot: at('images'), outputDir: at(outputDir) },
  ...{ resolution: 64, batchSize: 4, maxSteps, learningRate: 1e-3, reportTo: 'none' as const },
  ...{ groupBy: ['group', 'none'], datasetRepeats: [1, 2], dropImage: [0.3, 0.1] },
  ...{ maskedLoss: true, referenceMaskCrop: true, referenceBackground: '#808080' },
  ...{ referenceFlip: 0.5, referenceCrop: 0.5, referenceRotation: 20 },
  ...{ referenceColorJitter: [0.3, 0.3, 0.3, 0.1] },
});
const weights = (run: string, step: number): Buffer =>
  readFileSync(at(run, `checkpoint-${step}`, 'ip_adapter.safetensors'));

describe('references', () => {
  it.each([
    ['uncached', {}],
    ['cached', { cache: ['image', 'text', 'latents'] as const, imageVariants: 3, randomFlip: true }],
  ])('resume bit-exactly, %s', async (name, cached) => {
    const more = { ...cached, cache: 'cache' in cached ? [...cached.cache] : undefined, validationSplit: 2 };
    await train({ ...options(`whole-${name}`, 8), ...more, cacheDir: at('cache') });
    await train({ ...options(name, 3), ...more, cacheDir: at('cache') });
    await train({ ...options(name, 8), ...more, cacheDir: at('cache'), resume: 'latest' });
    expect(weights(name, 8).equals(weights(`whole-${name}`, 8))).toBe(true);
    if (name === 'cached') expect(readdirSync(at('cache'))).toHaveLength(3);
  });

  it('has one masked loss, however a batch is accumulated', async () => {
    await train({ ...options('at-once', 2), batchSize: 4, saveSteps: 1 });
    await train({ ...options('accumulated', 2), batchSize: 1, gradientAccumulationSteps: 4 });
    const losses = ['at-once', 'accumulated'].map((run) =>
      readFileSync(at(run, 'metrics.jsonl'), 'utf8')
        .split('\n')
        .flatMap((line) => (line.includes('"loss"') ? [JSON.parse(line).loss as number] : [])),
    ) as [number[], number[]];
    expect(losses[0].length).toBeGreaterThan(1);
    losses[0].forEach((loss, i) => {
      expect(losses[1][i]).toBeCloseTo(loss, 5);
    });
    const checkpoint = (run: string, step: number): string => at(run, `checkpoint-${step}`);
    const [one, other] = [checkpoint('at-once', 2), checkpoint('accumulated', 2)];
    expect(shareOfMovement(one, other, checkpoint('at-once', 1))).toBeLessThan(1e-3);
  });

  it('says what a mask has that cannot be used, and refuses masks that are not there', async () => {
    const { dataset, datasetRoot } = options('no', 1);
    const checked = { dataset, datasetRoot, resolution: 64, maskedLoss: true };
    const rows = JSON.parse(readFileSync(at('a.json'), 'utf8')) as object[];
    const { width = 0, height = 0 } = await sharp(at('images', 'm0.png')).metadata();
    const narrowest = Math.round((100 * (Math.ceil(width / 7) - 1)) / width);
    expect((await checkDataset(checked)).masks).toMatchObject({ rows: 8, percentShown: { min: narrowest } });
    const black = { create: { width, height, channels: 3, background: '#000' } } as const;
    await sharp(black).png().toFile(at('images', 'black.png'));
    await sharp(black)
      .resize(width - 1)
      .png()
      .toFile(at('images', 'small.png'));
    const wrong = ['black.png', 'small.png', 'absent.png'].map((mask_file, i) => ({ ...rows[i], mask_file }));
    writeFileSync(at('wrong.json'), JSON.stringify([...wrong, ...rows.slice(3)]));
    const { badRows } = await checkDataset({ ...checked, dataset: at('wrong.json') });
    expect(badRows.map(({ row, file, reason }) => [row, file, reason])).toEqual([
      [0, at('images', 'black.png'), expect.stringContaining('black where the image is used')],
      [1, at('images', 'small.png'), expect.stringMatching(/a mask of .* pixels, and its image has/)],
      [2, at('images', 'absent.png'), expect.any(String)],
    ]);
    writeFileSync(at('unmasked.json'), JSON.stringify(rows.map((row) => ({ ...row, mask_file: undefined }))));
    await expect(
      train({
        ...options('no', 1),
        dataset: at('unmasked.json'),
        groupBy: ['group'],
        datasetRepeats: [1],
        dropImage: [0.1],
      }),
    ).rejects.toThrow(/none of 8 rows has one/);
  });

  it('refuses variations that a cache cannot have, and variants of nothing', async () => {
    await expect(train({ ...options('no', 1), cache: ['image'] })).rejects.toThrow(/--image-variants 4/);
    const still = { referenceFlip: 0, referenceCrop: 1, referenceRotation: 0, referenceColorJitter: [0] };
    await expect(train({ ...options('no', 1), ...still, imageVariants: 2 })).rejects.toThrow(
      /nothing varies/,
    );
  });
});
