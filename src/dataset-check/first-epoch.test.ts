/** @file A check says how many steps an epoch of a training takes. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, stretchImages, type World } from '../../test/e2e/world.js';
import { tarOf } from '../../test/write-tar.js';
import type { CheckOptions } from '../options/train-types.js';
import { train } from '../training/train.js';
import { checkDataset } from './check-dataset.js';

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);

beforeAll(async () => {
  world = await makeWorld(9);
  await stretchImages(world, [
    [40, 80],
    [90, 50],
    [40, 80],
    [40, 80],
  ]);
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8')) as { image_file: string; text: string }[];
  writeFileSync(at('seven.json'), JSON.stringify(rows.slice(0, 7)));
  writeFileSync(at('first.json'), JSON.stringify(rows.slice(0, 4)));
  writeFileSync(at('rest.json'), JSON.stringify(rows.slice(4)));
  // Their headers say what bucket they are in, or not even that.
  truncateSync(at('images', '3.png'), 60);
  writeFileSync(at('images', '8.png'), 'no image');
  for (const [name, part] of Object.entries({ a: rows.slice(0, 4), b: rows.slice(4), c: rows.slice(2, 7) })) {
    const members = part.flatMap(({ image_file, text }): [string, Buffer | string][] => [
      [image_file, readFileSync(at('images', image_file))],
      [image_file.replace('png', 'txt'), text],
    ]);
    writeFileSync(at(`${name}.tar`), await tarOf(members));
  }
});
afterAll(() => world.remove());

const joined = { dataset: ['first.json', 'rest.json'] };
const shards = { dataset: ['a.tar', 'b.tar', 'c.tar'] };

it.each<[string, Omit<CheckOptions, 'dataset'> & { dataset: string[] }, number]>([
  ['squares', { dataset: ['seven.json'] }, 4],
  ['buckets, with a batch of a bad row alone', { dataset: ['seven.json'], buckets: true }, 4],
  ['repeats', { ...joined, datasetRepeats: [1, 3] }, 10],
  ['repeats in buckets', { ...joined, datasetRepeats: [1, 2], buckets: true, batchSize: 4 }, 5],
  ['weights', { ...joined, datasetWeights: [1, 3] }, 5],
  ['bad rows in batches of their own', { ...joined, datasetRepeats: [1, 3], batchSize: 1 }, 15],
  ['shards', { ...shards, buckets: true, batchSize: 3 }, 6],
  ['open shards', { ...shards, datasetWeights: [1, 3, 1], openShards: 0, batchSize: 3 }, 5],
])('%s', async (name, options, steps) => {
  const config = {
    ...{ resolution: 64, batchSize: 2, ...options },
    dataset: options.dataset.map((file) => at(file)),
    datasetRoot: options.dataset.every((file) => file.endsWith('json')) ? at('images') : undefined,
  };
  const { stepsPerEpoch } = await checkDataset(config);
  const { step } = await train({ ...world.optionsFor(name), ...config, epochs: 1 });
  expect([stepsPerEpoch, step]).toEqual([steps, steps]);
});
