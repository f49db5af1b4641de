/** Training SDXL from a folder of its models (../shared/golden/sdxl_base_models), end to end. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, stretchImages, type World } from '../../test/e2e/world.js';
import { golden } from '../../test/golden.js';
import { Recorder } from '../../test/recorder.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import type { TrainOptions } from '../options/train-types.js';
import { rowSizeConditioning } from './encodings/row-sizes.js';
import { train } from './train.js';

const models = golden('sdxl_base_models');

describe.skipIf(models === null)('SDXL (../shared/golden)', () => {
  let world: World;
  beforeAll(async () => {
    world = await makeWorld(8);
    await stretchImages(world, [
      [90, 50],
      [40, 80],
      [300, 100],
    ]);
  });
  afterAll(() => world.remove());

  const optionsFor = (name: string): TrainOptions => ({
    ...world.optionsFor(name),
    model: models as string,
    imageEncoder: join(models as string, 'image_encoder'),
    batchSize: 2,
    maxSteps: 6,
  });
  const everything = {
    buckets: true,
    randomFlip: true,
    cache: ['latents', 'text'],
  } satisfies Partial<TrainOptions>;
  const lossesOf = async (options: TrainOptions): Promise<number[]> => {
    const { losses, onEvent } = new Recorder();
    await train(options, { onEvent });
    return losses;
  };

  it.each(['plus', 'base', 'full-face'] as const)(
    '%s: losses with the cache are those without',
    async (kind) => {
      const options = { ...everything, kind };
      const cached = await lossesOf({ ...optionsFor(`${kind} cached`), ...options });
      const fresh = await lossesOf({ ...optionsFor(`${kind} fresh`), ...options, cache: undefined });
      expect(cached).toHaveLength(6);
      for (const [i, loss] of cached.entries())
        expect(Math.abs(loss / (fresh[i] as number) - 1)).toBeLessThan(1e-5);
    },
  );

  it('resumes bit-exactly, with buckets, mirrored images and everything cached', async () => {
    const options = { ...everything, cache: ['latents', 'text', 'image'] } satisfies Partial<TrainOptions>;
    const whole = await train({ ...optionsFor('whole'), ...options });
    await train({ ...optionsFor('parts'), ...options, maxSteps: 3 });
    const resumed = await train({ ...optionsFor('parts'), ...options, resume: true });
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors']) {
      const [a, b] = [whole, resumed].map(({ checkpoint }) => readFileSync(join(checkpoint, file)));
      expect(Buffer.compare(a as Buffer, b as Buffer), file).toBe(0);
    }
  });

  it('tells the UNet of each row its size, its crop and its target, mirrored or not', () => {
    const model = openDiffusionModel(models as string);
    const sizes = [{ width: 97, height: 64 }, { width: 1365, height: 2048 }, null];
    const target = { width: 64, height: 64 };
    const conditioning = rowSizeConditioning(model, sizes, () => target, 'cpu');
    const batch = { rows: [0, 0, 1, 2], flips: [false, true, false, false] };
    const { timeIds } = conditioning?.(batch as never) ?? {};
    expect([timeIds?.dtype, timeIds?.shape]).toEqual(['float32', [4, 6]]);
    // 300 × 100 covers the square as 192 × 64, cut from 64 on; mirrored, from 192 − 64 − 64 on.
    expect(timeIds?.toNumbers()).toEqual([
      // Cut from 16.5, rounded to even; in the mirrored image from 97 − 16 − 64.
      ...[64, 97, 0, 16, 64, 64],
      ...[64, 97, 0, 17, 64, 64],
      // 64 × 96, cut from 16 on.
      ...[2048, 1365, 16, 0, 64, 64],
      ...[64, 64, 0, 0, 64, 64],
    ]);
  });
});
