import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryStats } from '../../src/torch/index.js';
import { train } from '../../src/train.js';
import { makeWorld, type World } from '../e2e/world.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('holds at step 200 what it held at step 20', async () => {
  const samples: { step: number; live: number; bytes: number; own: number }[] = [];
  await train(
    {
      ...world.optionsFor('out'),
      trainBatchSize: 2,
      maxTrainSteps: 200,
      saveSteps: 50,
    },
    {
      onSteps: ({ step }) => {
        const { liveTensors: live, cpuAllocatedBytes: bytes } = memoryStats();
        samples.push({ step, live, bytes, own: ownBytes() });
      },
    },
  );
  const early = samples.find(({ step }) => step >= 20);
  const late = samples.at(-1);
  if (early === undefined || late === undefined) return expect.unreachable('no samples');
  expect(late.step).toBe(200);
  expect(late.live).toBe(early.live);
  expect(late.bytes).toBe(early.bytes);
  // The rest of the process is V8's heap, which grows and shrinks as it likes, within this. Of several samples the
  // least: what is leaked is in all of them.
  const least = (from: number, to: number): number =>
    Math.min(...samples.filter(({ step }) => from <= step && step <= to).map(({ own }) => own));
  expect((least(150, 200) - least(20, 70)) / 2 ** 20).toBeLessThan(24);
});

/** Resident memory without the pages of mapped files, which the system takes away and brings back as it likes. */
function ownBytes(): number {
  const status = '/proc/self/status';
  if (!existsSync(status)) return process.memoryUsage().rss;
  return Number(/^RssAnon:\s*(\d+) kB$/m.exec(readFileSync(status, 'utf8'))?.[1]) * 1024;
}
