import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { Recorder } from '../../test/recorder.js';
import { shuffledIndices } from '../data/sampling.js';
import { train } from './train.js';

const IMAGES = 8;
const BATCH = 2;
/** The second batch of the first epoch, and a row of its third one. */
const BAD = [2, 3, 4].map((position) => shuffledIndices(0, 0, IMAGES)[position] as number);

let world: World;
beforeAll(async () => {
  world = await makeWorld(IMAGES);
  for (const row of BAD) truncateSync(join(world.root, 'images', `${row}.png`), 60);
});
afterAll(() => world.remove());

const optionsFor = (name: string) => ({
  ...world.optionsFor(name),
  batchSize: BATCH,
  learningRate: 1e-3,
  saveSteps: 1,
});
const adapterOf = (name: string, step: number): Buffer =>
  readFileSync(join(world.root, name, `checkpoint-${step}`, 'ip_adapter.safetensors'));

describe('images that cannot be read', () => {
  it('make a batch smaller; a batch without rows is skipped with words, and is no step', async () => {
    const { losses, messages, onEvent } = new Recorder();
    const { step, badRows } = await train({ ...optionsFor('epoch'), epochs: 1 }, { onEvent });
    // Four batches are planned: of 2, 0, 1 and 2 rows.
    expect([step, losses.length]).toEqual([3, 3]);
    expect(messages).toContain('Skipped a batch: no image of its 2 rows can be read');
    expect(badRows.map(({ file }) => file).sort()).toEqual(
      BAD.map((row) => join(world.root, 'images', `${row}.png`)).sort(),
    );
  });

  it('let a later batch take the place of one without rows where steps are counted', async () => {
    const { step } = await train({ ...optionsFor('steps'), maxSteps: 5 });
    expect(step).toBe(5);
    const state = JSON.parse(
      readFileSync(join(world.root, 'steps', 'checkpoint-3', 'training_state.json'), 'utf8'),
    );
    expect([state.epoch, state.position]).toEqual([0, IMAGES]);
  });

  it('resume bit-exactly, before and after a batch without rows', async () => {
    await train({ ...optionsFor('whole'), maxSteps: 5 });
    for (const stop of [1, 2, 4]) {
      const name = `stopped after ${stop}`;
      await train({ ...optionsFor(name), maxSteps: stop });
      await train({ ...optionsFor(name), maxSteps: 5, resume: true });
      expect(Buffer.compare(adapterOf(name, 5), adapterOf('whole', 5)), name).toBe(0);
    }
  });
});
