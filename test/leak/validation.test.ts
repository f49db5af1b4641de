import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryStats } from '../../src/torch/index.js';
import { train } from '../../src/training/train.js';
import { makeWorld, type World } from '../e2e/world.js';
import { endsGroup } from '../recorder.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('validation pictures leave nothing behind, after the first as after the tenth', async () => {
  const outside = memoryStats().liveTensors;
  const samples: { live: number; bytes: number }[] = [];
  const { step } = await train(
    {
      ...world.optionsFor('out'),
      batchSize: 2,
      maxSteps: 20,
      validationImages: [`${world.root}/images/0.png`, `${world.root}/images/1.png`],
      validationSteps: 2,
      numValidationImages: 2,
      validationSamplingSteps: 4,
    },
    {
      // Told before each drawing, hence after the one before.
      onEvent: (event) => {
        if (!endsGroup(event)) return;
        const { liveTensors: live, cpuAllocatedBytes: bytes } = memoryStats();
        samples.push({ live: live - outside, bytes });
      },
    },
  );
  expect(step).toBe(20);
  expect(samples.length).toBeGreaterThanOrEqual(10);
  expect(new Set(samples.map(({ live }) => live)).size).toBe(1);
  expect(new Set(samples.map(({ bytes }) => bytes)).size).toBe(1);
});
