import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { golden } from '../../test/golden.js';
import { readAdapter, trainedWith, writeAdapter } from '../adapters/adapter-file.js';
import { IPAdapterPipeline } from '../generation/pipeline.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(4);
});
afterAll(() => world.remove());

it.each([
  ['siglip', 'siglip'],
  ['dinov2_registers', 'dinov2_with_registers'],
  ['vit', 'vit'],
])('trains and generates with %s as image encoder', async (name, type) => {
  const imageEncoder = join(golden('vision_encoders') as string, name);
  for (const kind of ['plus', 'base'] as const) {
    const options = {
      ...world.optionsFor(`${name}-${kind}`),
      imageEncoder,
      kind,
      batchSize: 2,
      maxSteps: 2,
    };
    const { checkpoint } = await train(options);
    using pipeline = await IPAdapterPipeline.load({
      model: options.model,
      imageEncoder,
      adapter: checkpoint,
    });
    // A file says what it was trained with, and an encoder of the same width is refused all the same.
    const file = join(checkpoint, 'ip_adapter.safetensors');
    expect(trainedWith(file).imageEncoder).toBe(type);
    const adapter = join(world.root, 'other.safetensors');
    writeAdapter(adapter, readAdapter(file), { imageEncoder: 'another' });
    await expect(IPAdapterPipeline.load({ model: options.model, imageEncoder, adapter })).rejects.toThrow(
      `was trained with an image encoder of type another, and ${imageEncoder} is of type ${type}`,
    );
    const draw = async (images: string[]) => {
      const [image] = await pipeline.generate({ images, steps: 2, width: 64, height: 64 });
      return Buffer.from(image?.data as Uint8Array);
    };
    const [first, second] = [0, 3].map((i) => join(world.root, 'images', `${i}.png`)) as [string, string];
    expect((await draw([first])).equals(await draw([second])), kind).toBe(false);
    expect((await draw([first])).equals(await draw([first])), kind).toBe(true);
  }
});
