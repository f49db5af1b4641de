/** @file What the engine loads for a grid of checkpoints and strengths, and for what follows it. */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { generate } from '../generation/generate.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import type { FromEngine } from './engine-messages.js';
import { EngineProcess } from './engine-process.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let world: Adapted;
let engine: EngineProcess;
const at = (...parts: string[]): string => join(world.root, ...parts);
beforeAll(async () => {
  world = await makeAdaptedWorld();
  mkdirSync(at('out'));
  engine = new EngineProcess();
});
afterAll(() => {
  engine[Symbol.dispose]();
  world.remove();
});

const quick = { steps: 2, width: 64, height: 64, prompt: 'a' };
let count = 0;

/** Generates an image; returns its pixels, and what was loaded for it. */
async function run(models: Partial<PipelineOptions>, prompt: PromptOptions) {
  const file = at('out', `${count++}.png`);
  const loads: string[] = [];
  const last = await new Promise<FromEngine>((resolve) =>
    engine.run({
      work: {
        type: 'generate',
        models: { model: world.model, ...models },
        prompt: { ...quick, ...prompt },
        files: [file],
      },
      onMessage: (message) => {
        if (message.type === 'loading') loads.push(message.what);
        if (message.type === 'done' || message.type === 'failed') resolve(message);
      },
    }),
  );
  expect(last).toEqual({ type: 'done' });
  return { loads, pixels: await sharp(readFileSync(file)).removeAlpha().raw().toBuffer() };
}

it('loads the model once for a grid of two checkpoints and three strengths', async () => {
  const all: string[] = [];
  const { imageEncoder } = world;
  const images = [world.picture(1)];
  for (const adapter of [world.checkpoint, world.base])
    for (const scale of [0, 0.5, 1]) {
      const { loads, pixels } = await run(
        { adapters: [{ adapter, imageEncoder }] },
        { adapters: [{ images, scale }] },
      );
      all.push(...loads);
      const [expected] = await generate({
        ...quick,
        model: world.model,
        adapter,
        imageEncoder,
        images,
        scale,
      });
      expect(pixels.equals(Buffer.from(expected?.data as Uint8Array)), `${adapter} ${scale}`).toBe(true);
    }
  expect(all).toEqual(['models', 'adapters']);
});

it('loads adapters again that were written anew under the same name, and models for everything else', async () => {
  const { imageEncoder } = world;
  const own = at('own.safetensors');
  const adapters = [{ adapter: own, imageEncoder }];
  const prompt = { adapters: [{ images: [world.picture(1)] }] };
  copyFileSync(world.adapter, own);
  const first = await run({ adapters }, prompt);
  copyFileSync(world.base, own);
  const second = await run({ adapters }, prompt);
  expect(second.pixels.equals(first.pixels)).toBe(false);
  const both = [...adapters, { adapter: world.adapter, imageEncoder }];
  expect((await run({ adapters: both }, { adapters: [{}, {}] })).loads).toEqual(['adapters']);
  expect((await run({}, {})).loads).toEqual(['adapters']);
  expect((await run({ dtype: 'bfloat16' }, {})).loads).toEqual(['models']);
  expect([first.loads, second.loads]).toEqual([['adapters'], ['adapters']]);
});
