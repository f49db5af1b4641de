import { afterAll, beforeAll, expect, it } from 'vitest';
import { readSafetensors } from '../../src/formats/index.js';
import { memoryStats } from '../../src/torch/index.js';
import { train } from '../../src/training/train.js';
import { loadUNet } from '../../src/weights/load.js';
import { makeWorld, type World } from '../e2e/world.js';
import { endsGroup } from '../recorder.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('with everything cached holds the UNet and the adapter alone, at the end as at the start', async () => {
  const samples: { live: number; bytes: number }[] = [];
  const { checkpoint } = await train(
    {
      ...world.optionsFor('out'),
      batchSize: 2,
      maxSteps: 60,
      cache: 'latents,text,image',
    },
    {
      onEvent: (event) => {
        if (!endsGroup(event)) return;
        const { liveTensors: live, cpuAllocatedBytes: bytes } = memoryStats();
        samples.push({ live, bytes });
      },
    },
  );
  expect(samples.length).toBeGreaterThan(1);
  expect(new Set(samples.map(({ bytes }) => bytes)).size).toBe(1);
  expect(new Set(samples.map(({ live }) => live)).size).toBe(1);
  const unet = loadUNet(`${world.root}/model/unet`).parameters().length;
  const adapter = readSafetensors(`${checkpoint}/ip_adapter.safetensors`).tensors.size;
  // AdamW has two more tensors for each. The smallest of the encoders has 36 tensors, a part of the cache one.
  expect((samples[0]?.live ?? 0) - unet - 3 * adapter).toBeLessThan(10);
});
