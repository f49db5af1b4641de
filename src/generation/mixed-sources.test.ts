import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { resolveTarget } from '../torch/target.js';
import { embed } from './embed.js';
import { IPAdapterPipeline } from './pipeline.js';

let world: Adapted;
beforeAll(async () => {
  world = await makeAdaptedWorld();
});
afterAll(() => world.remove());

// Features of a file are on the CPU, and those of an image where the encoder is: with a GPU this runs there too.
const devices = [...new Set(['cpu', resolveTarget({}).device])];

it.each(devices)('an image and a file of features can be mixed on %s', async (device) => {
  const { model, imageEncoder, adapter } = world;
  const [a, b] = [world.picture(0), world.picture(3)];
  const file = join(world.root, `features-${device.replace(':', '-')}.safetensors`);
  await embed({ imageEncoder, images: [b], out: file, device, dtype: 'float32' });
  using pipeline = await IPAdapterPipeline.load({ model, imageEncoder, adapter, device, dtype: 'float32' });
  const draw = async (images: string[]) =>
    (await pipeline.generate({ steps: 2, width: 64, height: 64, images }))[0]?.data;
  expect(await draw([a, file])).toEqual(await draw([a, b]));
  expect(await draw([a, file])).not.toEqual(await draw([a]));
});
