import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import { writeControlNet } from '../../test/controlnet.js';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { CheckpointError } from '../base/errors.js';
import type { PromptOptions } from '../options/generate-types.js';
import { memoryStats } from '../torch/index.js';
import { IPAdapterPipeline } from './pipeline.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

let world: Adapted;
beforeAll(async () => {
  world = await makeAdaptedWorld();
});
afterAll(() => world.remove());

const at = (...parts: string[]): string => join(world.root, ...parts);

/** Copies a folder, or a file where `file` is empty, and puts NaN into each tensor of the safetensors file. */
function spoilt(source: string, file: string): string {
  const copy = at(`spoilt-${file.replaceAll('/', '-')}${file === '' ? 'adapter.safetensors' : ''}`);
  cpSync(source, copy, { recursive: true });
  const path = file === '' ? copy : join(copy, file);
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, start).toString());
  for (const { data_offsets: offsets, dtype } of Object.values(header) as Record<string, number[]>[]) {
    // Both halves of a NaN, whether of 2 or 4 bytes.
    if (/^(F32|F16|BF16)$/.test(String(dtype))) bytes.writeUInt32LE(0x7fc07fc0, start + (offsets?.[0] ?? 0));
  }
  writeFileSync(path, bytes);
  return copy;
}

type Change = Partial<Record<'model' | 'adapter' | 'imageEncoder' | 'controlnet', string>>;

it.each<[string, () => Change, (() => PromptOptions)?]>([
  ['the UNet', () => ({ model: spoilt(world.model, 'unet/diffusion_pytorch_model.safetensors') })],
  ['the VAE', () => ({ model: spoilt(world.model, 'vae/diffusion_pytorch_model.safetensors') })],
  ['the text encoder', () => ({ model: spoilt(world.model, 'text_encoder/model.safetensors') })],
  ['the image encoder', () => ({ imageEncoder: spoilt(world.imageEncoder, 'model.safetensors') })],
  ['the adapter', () => ({ adapter: spoilt(world.adapter, '') })],
  [
    'the VAE',
    () => ({ model: spoilt(world.model, 'vae/diffusion_pytorch_model.safetensors') }),
    () => ({ initImage: world.picture(1) }),
  ],
  [
    'a ControlNet',
    () => {
      writeControlNet(at('control'), join(world.model, 'unet'), 1);
      return { controlnet: spoilt(at('control'), 'diffusion_pytorch_model.safetensors') };
    },
    () => ({ controlImage: world.picture(1) }),
  ],
])('NaN of %s is an error that names it, and nothing is kept', async (part, change, options) => {
  const { model, adapter, imageEncoder } = world;
  const quick = { steps: 2, width: 64, height: 64 };
  using pipeline = await IPAdapterPipeline.load({ ...{ model, adapter, imageEncoder }, ...change() });
  const draw = () => pipeline.generate({ ...quick, images: [world.picture(0)], prompt: 'a', ...options?.() });
  const before = memoryStats().liveTensors;
  await expect(draw()).rejects.toThrow(CheckpointError);
  await expect(draw()).rejects.toThrow(`Generation failed: ${part} made NaN or infinity`);
  expect(memoryStats().liveTensors).toBeLessThanOrEqual(before);
});
