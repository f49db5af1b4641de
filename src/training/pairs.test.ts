/** @file Runs with groups, several datasets, their own drops and prefixes, and held-out rows resume bit-exactly. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import type { RunEvent } from '../base/run-context.js';
import { train } from './train.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);

beforeAll(async () => {
  world = await makeWorld(14);
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8')) as object[];
  writeFileSync(
    at('grouped.json'),
    JSON.stringify(rows.slice(0, 9).map((row, i) => ({ ...row, group: i % 3 }))),
  );
  writeFileSync(at('plain.json'), JSON.stringify(rows.slice(9)));
});
afterAll(() => world.remove());

const options = (outputDir: string, maxSteps: number) => ({
  model: at('model'),
  imageEncoder: at('image_encoder'),
  dataset: [at('grouped.json'), at('plain.json')],
  datasetRoot: at('images'),
  outputDir: at(outputDir),
  ...{ resolution: 64, batchSize: 4, maxSteps, learningRate: 1e-3, reportTo: 'none' as const },
  ...{
    groupBy: ['group', 'none'],
    referencesPerRow: 2,
    datasetRepeats: [1, 2],
    captionPrefix: ['', 'photo'],
  },
  ...{ dropImage: [0.3, 0.1], randomFlip: true, validationSplit: 3 },
});

it.each([[[]], [['image', 'text', 'latents']]] as const)('with the cache of %j', async (cache) => {
  const name = `cached-${cache.length}`;
  const cached = { cache: [...cache], cacheDir: at('cache') };
  const messages: string[] = [];
  const onEvent = (event: RunEvent) => {
    if (event.type === 'message') messages.push(event.text);
  };
  await train({ ...options(`whole-${name}`, 10), ...cached }, { onEvent });
  await train({ ...options(name, 4), ...cached });
  await train({ ...options(name, 10), ...cached, resume: 'latest' });
  for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors'])
    expect(
      readFileSync(at(name, 'checkpoint-10', file)).equals(
        readFileSync(at(`whole-${name}`, 'checkpoint-10', file)),
      ),
    ).toBe(true);
  expect(messages.join('\n')).toMatch(/Groups: 3 of \d rows/);
  expect(messages.join('\n')).toMatch(/An epoch has \d+ rows/);
  await expect(
    train({ ...options(name, 12), ...cached, resume: 'latest', dropImage: [0.2] }),
  ).rejects.toThrow(/--drop-image is 0.2 but .* was trained with 0.3,0.1/);
});
