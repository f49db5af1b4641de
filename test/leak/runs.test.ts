import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RunContext } from '../../src/base/run-context.js';
import { memoryStats } from '../../src/torch/index.js';
import { train } from '../../src/training/train.js';
import { makeWorld, type World } from '../e2e/world.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

const options = (name: string) => ({
  ...world.optionsFor(name),
  batchSize: 2,
  maxSteps: 2,
  saveSteps: 1,
});

/** Tensors that a run leaves behind, however it ends. */
async function left(
  ...args: Parameters<typeof train>
): Promise<{ tensors: number; message: string | undefined }> {
  const before = memoryStats().liveTensors;
  const error = await train(...args).then(
    () => undefined,
    (error: Error) => error,
  );
  return { tensors: memoryStats().liveTensors - before, message: error?.message };
}

it('a run leaves no tensor behind, nor does the next, resumed ones and those with everything included', async () => {
  const more = {
    useEma: true,
    cache: 'latents,image',
    validationImages: [join(world.root, 'images', '0.png')],
    validationSteps: 1,
    validationSamplingSteps: 2,
  };
  for (const run of [
    options('plain'),
    options('plain again'),
    { ...options('plain'), resume: true, maxSteps: 3 },
    { ...options('everything'), ...more },
    { ...options('everything'), ...more, resume: true, maxSteps: 3 },
    { ...options('from'), adapter: join(world.root, 'plain', 'checkpoint-2') },
  ] as const)
    expect(await left(run), run.outputDir).toEqual({ tensors: 0, message: undefined });
});

it('nor does one that fails or is stopped', async () => {
  const aborted = new AbortController();
  aborted.abort(new Error('stopped'));
  const failing: [Parameters<typeof train>[0], RunContext, RegExp][] = [
    [{ ...options('stopped') }, { signal: aborted.signal }, /stopped/],
    [
      { ...options('throws') },
      {
        onEvent: ({ type }) => {
          if (type === 'step') throw new Error('own');
        },
      },
      /own/,
    ],
    [{ ...options('plain'), seed: 5, resume: true }, {}, /--seed is 5/],
    [{ ...options('validation'), validationImages: [join(world.root, 'data.json')] }, {}, /data\.json/],
    [
      {
        ...options('tokens'),
        numTokens: 4,
        adapter: join(world.root, 'plain', 'checkpoint-2'),
      },
      {},
      /num-tokens/,
    ],
  ];
  for (const [run, hooks, message] of failing) {
    const { tensors, message: received } = await left(run, hooks);
    expect(received).toMatch(message);
    expect(tensors, message.source).toBe(0);
  }
});
