import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryStats } from '../../src/torch/index.js';
import { train } from '../../src/training/train.js';
import { collectGarbage } from '../collect-garbage.js';
import { makeWorld, type World } from '../e2e/world.js';
import { endsGroup } from '../recorder.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('holds at step 200 what it held at step 20', { timeout: 180_000 }, async () => {
  const samples: { step: number; live: number; bytes: number; rss: number }[] = [];
  await train(
    {
      ...world.optionsFor('out'),
      batchSize: 2,
      maxSteps: 200,
      saveSteps: 50,
    },
    {
      onEvent: (event) => {
        if (!endsGroup(event)) return;
        const { step } = event;
        // When V8 does so by itself depends on how busy the machine is: there may be 50 MB of garbage.
        collectGarbage();
        const { liveTensors: live, cpuAllocatedBytes: bytes } = memoryStats();
        samples.push({ step, live, bytes, rss: process.memoryUsage().rss });
      },
    },
  );
  const early = samples.find(({ step }) => step >= 20);
  const late = samples.at(-1);
  if (early === undefined || late === undefined || early.step >= 150)
    return expect.unreachable('too few samples');
  expect(late.step).toBe(200);
  expect(late.live).toBe(early.live);
  expect(late.bytes).toBe(early.bytes);
  // The rest of the process is V8's heap, whose free pages stay as V8 likes, within this.
  expect((late.rss - early.rss) / 2 ** 20).toBeLessThan(24);
});
