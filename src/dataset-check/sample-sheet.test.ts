/** @file The contact sheet shows to the byte what a training run gives to the image encoder. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { floatsOf } from '../../test/pixel-floats.js';
import { tarOf } from '../../test/write-tar.js';
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { RgbImage } from '../base/rgb-image.js';
import { DataLoader } from '../data/data-loader.js';
import { epochOrder } from '../data/epoch-order.js';
import { openDataset } from '../data/open-dataset.js';
import { referenceOptions } from '../data/reference-options.js';
import { trainRows } from '../data/train-rows.js';
import { openModelParts } from '../diffusion/model-parts.js';
import { cellOrigin } from '../images/labelled-sheet.js';
import { lineHeight } from '../images/pixel-font.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { resolveOptions } from '../options/options.js';
import type { CheckOptions } from '../options/train-types.js';
import { readSamples, sampleSheet } from './sample-sheet.js';

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);
const SIDE = 192;

beforeAll(async () => {
  world = await makeWorld(9);
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8')) as { image_file: string }[];
  for (const i of rows.keys()) {
    const mask = { create: { width: 40, height: 30, channels: 3, background: '#fff' } } as const;
    await sharp(mask)
      .extend({ left: 25, right: 15, top: 20, bottom: 14 })
      .png()
      .toFile(at('images', `m${i}.png`));
  }
  const masked = rows.map((row, i) => ({ ...row, mask_file: `m${i}.png`, group: i % 3 }));
  writeFileSync(at('masked.json'), JSON.stringify(masked));
  for (const shard of [0, 1, 2]) {
    const members = [0, 1, 2].flatMap((i): [string, Buffer | string][] => [
      [`${i}.png`, readFileSync(at('images', `${3 * shard + i}.png`))],
      [`${i}.txt`, 'a'],
    ]);
    writeFileSync(at(`${shard}.tar`), await tarOf(members));
  }
  mkdirSync(at('encoder'));
  const config = JSON.parse(readFileSync(at('image_encoder', 'config.json'), 'utf8'));
  writeFileSync(
    at('encoder', 'config.json'),
    JSON.stringify({ ...config, image_size: SIDE, patch_size: 32 }),
  );
});
afterAll(() => world.remove());

const options = (): CheckOptions => ({
  ...{ dataset: at('masked.json'), datasetRoot: at('images'), imageEncoder: at('encoder'), resolution: 64 },
  ...{ show: 7, groupBy: 'group', referencesPerRow: 2, seed: 5, randomFlip: true, dropImage: 0.3 },
  ...{ maskedLoss: true, referenceMaskCrop: true, referenceBackground: '#204060' },
  ...{
    referenceFlip: 0.5,
    referenceCrop: 0.5,
    referenceRotation: 20,
    referenceColorJitter: [0.3, 0.3, 0.3, 0.1],
  },
});

function cell({ data, width }: RgbImage, row: number, column: number): number[] {
  const { left, top } = cellOrigin({ width: SIDE, height: SIDE }, row, column);
  return Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
    const [x, y, c] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE), i % 3];
    return data[((top + y) * width + left + x) * 3 + c] as number;
  });
}

it('has the references that a run reads', async () => {
  const sheet = await sampleSheet(options());
  expect(sheet.width).toBe(3 * SIDE);

  const config = resolveOptions(checkOptionsSchema, options());
  const { preprocess } = openImageEncoder(at('encoder'));
  const dataset = trainRows(await openDataset({ ...config, readMasks: true }), config);
  const loader = new DataLoader({
    ...{ rows: dataset.rows, groups: dataset.groups, dropRatesOf: dataset.dropRatesOf },
    ...{ seed: 5, randomFlip: true, referencesPerRow: 2, references: referenceOptions(config) },
    ...{ resolution: 64, batchSize: 7, prefetch: 1, imageProcessor: preprocess },
    tokenizer: openModelParts(at('model')).tokenizer(),
    inputs: ['clipPixelValues'],
  });
  const { value: batch } = await loader.batches(0).next();
  const pixels = floatsOf(batch?.clipPixelValues);
  const { mean, std } = {
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
  };
  const dropped = batch?.drops.map(({ dropImage }) => dropImage) as boolean[];
  expect(new Set(dropped).size).toBe(2);
  for (let i = 0; i < 14; i++) {
    const [row, column] = [Math.floor(i / 2), 1 + (i % 2)];
    const expected = Array.from({ length: SIDE * SIDE * 3 }, (_, at) => {
      const [place, c] = [Math.floor(at / 3), at % 3];
      const value = pixels[(i * 3 + c) * SIDE * SIDE + place] as number;
      return dropped[row] ? 255 : Math.round((value * (std[c] as number) + (mean[c] as number)) * 255);
    });
    expect(cell(sheet, row, column).filter((value, at) => value !== expected[at])).toEqual([]);
  }
});

it('takes the rows of shards and repeats that a run takes first', async () => {
  const sheet = { imageEncoder: at('encoder'), resolution: 64, show: 10, seed: 5 };
  const dataset = ['0.tar', '1.tar', '2.tar'].map((name) => at(name));
  const rowsOf = async (options: object): Promise<number[]> =>
    (await readSamples({ ...sheet, dataset, ...options })).rows.map(({ row }) => row);
  const config = { datasetRepeats: [1, 2, 1], seed: 5 };
  const { rows, shards, mixture } = trainRows(await openDataset({ dataset }), config);
  const loader = new DataLoader({
    ...{ rows, shards, mixture, seed: 5, openShards: 64, resolution: 64, batchSize: 10, prefetch: 1 },
    imageProcessor: openImageEncoder(at('encoder')).preprocess,
    tokenizer: openModelParts(at('model')).tokenizer(),
    inputs: [],
  });
  const { value: batch } = await loader.batches(0).next();
  expect(await rowsOf({ datasetRepeats: [1, 2, 1] })).toEqual(batch?.plannedRows);
  const shuffled = [...epochOrder(0, 0, { rows: 9, seed: 5, batchSize: 8 })];
  expect(await rowsOf({ openShards: 0 })).toEqual(shuffled);
});

it('darkens what a mask takes out of the loss', async () => {
  const plain = await sampleSheet({ ...options(), maskedLoss: false });
  const masked = await sampleSheet(options());
  const [before, after] = [cell(plain, 0, 0), cell(masked, 0, 0)];
  const middle = (SIDE / 2) * SIDE * 3 + (SIDE / 2) * 3;
  expect(after.slice(middle, middle + 3)).toEqual(before.slice(middle, middle + 3));
  expect(after[0]).toBe(Math.round((before[0] as number) / 4));
});

it('passes over a row that cannot be read, and says so', async () => {
  writeFileSync(at('images', '4.png'), 'not an image');
  const messages: string[] = [];
  const sheet = await sampleSheet(
    { ...options(), show: 8, groupBy: undefined, referencesPerRow: 1 },
    { onEvent: (event) => event.type === 'message' && messages.push(event.text) },
  );
  expect(messages.filter((text) => text.startsWith('Not shown: ')).join('\n')).toContain('4.png');
  // A line above each row of the sheet, and two above the first.
  expect(sheet.height).toBe(2 * lineHeight + 8 * (lineHeight + SIDE));
});

it('names what it needs', async () => {
  await expect(sampleSheet({ ...options(), imageEncoder: undefined })).rejects.toThrow(/--image-encoder/);
});
