import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { IPAdapterPipeline, type RgbImage } from '../src/index.js';
import { tidy, zeros } from '../src/torch/index.js';
import { readAddEmbedding, writeModelsXL } from './models-xl.js';
import { fullCaption } from './world/caption.js';
import { sampleScenes } from './world/scene.js';

const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-models-xl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const captions = sampleScenes(4, 'held-out', 64).map(fullCaption);

async function draw(model: string, originalSize?: [number, number]): Promise<RgbImage[]> {
  using pipeline = await IPAdapterPipeline.load({ model });
  const jobs = captions.map((prompt, seed) => ({ prompt, seed, images: [] }));
  const sizes = originalSize && { originalSize };
  return await pipeline.generateEach(jobs, { steps: 20, guidanceScale: 3, batchSize: 4, ...sizes });
}

it('draws what the small Stable Diffusion draws, without add_embedding', async () => {
  const model = join(folder, 'exact');
  const none = new Map(
    Array.from(readAddEmbedding(), ([name, weight]) => [name, tidy(() => zeros(weight.shape))]),
  );
  writeModelsXL(model, none);
  const [small, xl] = [await draw('demo/models'), await draw(model)];
  for (const [i, { data }] of small.entries())
    expect(
      Math.max(...data.map((byte, at) => Math.abs(byte - (xl[i]?.data[at] as number)))),
    ).toBeLessThanOrEqual(2);
});

it('draws less sharp images where the original size says that they were small', async () => {
  const model = join(folder, 'trained');
  writeModelsXL(model, readAddEmbedding());
  const [large, small] = [await draw(model), await draw(model, [16, 16])];
  expect(sharpness(small)).toBeLessThan(0.985 * sharpness(large));
});

/** The mean square of the differences of neighbours in a row. */
function sharpness(images: readonly RgbImage[]): number {
  const squares = images.flatMap(({ data }) =>
    Array.from(data.subarray(3), (byte, i) => (byte - (data[i] as number)) ** 2),
  );
  return squares.reduce((sum, one) => sum + one, 0) / squares.length;
}
