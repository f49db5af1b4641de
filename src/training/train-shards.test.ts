import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { tarOf } from '../../test/write-tar.js';
import { writeChecksums } from '../base/checksums.js';
import { train } from './train.js';

const IMAGES = 14;
const STEPS = 8;

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);

beforeAll(async () => {
  world = await makeWorld(IMAGES);
  for (const [shard, images] of [
    [0, 1, 2, 3, 4],
    [5, 6, 7],
    [8, 9, 10, 11, 12, 13],
  ].entries())
    writeFileSync(
      at(`${shard}.tar`),
      await tarOf(
        images.flatMap((i): [string, string | Buffer][] => [
          [`${i}.png`, readFileSync(at('images', `${i}.png`))],
          [`${i}.txt`, `a picture ${i}`],
        ]),
      ),
    );
});
afterAll(() => world.remove());

async function run(name: string, options: Record<string, unknown> = {}): Promise<Buffer> {
  const { datasetRoot: _, ...common } = world.optionsFor(name);
  const { step } = await train({
    ...{ ...common, dataset: at('{0..2}.tar'), batchSize: 4, learningRate: 1e-3 },
    ...{ saveSteps: 1, maxSteps: STEPS, ...options },
  });
  return readFileSync(at(name, `checkpoint-${step}`, 'ip_adapter.safetensors'));
}

const stateOf = (name: string, step: number): { options: Record<string, unknown> } =>
  JSON.parse(readFileSync(at(name, `checkpoint-${step}`, 'training_state.json'), 'utf8'));

describe('training on shards', () => {
  it.each([{}, { openShards: 1 }, { openShards: 2, buckets: true }])(
    'resumes bit-exactly from any step with %j',
    async (options) => {
      const name = (stop: number) => `${JSON.stringify(options)} ${stop}`;
      const whole = await run(name(STEPS), options);
      expect(stateOf(name(STEPS), 1).options.openShards).toBe(options.openShards ?? 64);
      for (const stop of [1, 4]) {
        await run(name(stop), { ...options, maxSteps: stop });
        // The number of shards is the checkpoint's.
        const { openShards: __, ...others } = { openShards: 0, ...options };
        expect(Buffer.compare(await run(name(stop), { ...others, resume: true }), whole)).toBe(0);
      }
    },
  );

  it('takes another order with another number of shards, and refuses to resume with it', async () => {
    const one = await run('one', { openShards: 1 });
    expect(Buffer.compare(await run('two', { openShards: 2 }), one)).not.toBe(0);
    await expect(run('one', { openShards: 2, maxSteps: 9, resume: true })).rejects.toThrow(
      `--open-shards is 2 but ${at('one', `checkpoint-${STEPS}`)} was trained with 1; use the same value to resume`,
    );
  });

  it('resumes a checkpoint of a version that shuffled all rows in their order', async () => {
    const whole = await run('shuffled', { openShards: 0 });
    await run('older', { openShards: 0, maxSteps: 3 });
    const state = stateOf('older', 3);
    delete state.options.openShards;
    writeFileSync(at('older', 'checkpoint-3', 'training_state.json'), JSON.stringify(state));
    rmSync(at('older', 'checkpoint-3', 'SHA256SUMS'));
    writeChecksums(at('older', 'checkpoint-3'));
    await expect(run('older', { openShards: 64, resume: true })).rejects.toThrow(
      /--open-shards is 64 but .*older.checkpoint-3 was trained with 0; use the same value to resume/,
    );
    expect(Buffer.compare(await run('older', { resume: true }), whole)).toBe(0);
  });
});
