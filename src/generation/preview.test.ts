import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { expectAllclose } from '../../test/golden.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { PreviewEvent } from '../base/run-context.js';
import { sd15Scheduler } from '../diffusion/published-schedulers.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { resizeAndCrop } from '../images/resample.js';
import { parseSchedulerConfig, type SamplerName } from '../schedulers/config.js';
import { trainedSigmas } from '../schedulers/sigmas.js';
import { Generator, memoryStats, noGrad, randn, tensor, tidy } from '../torch/index.js';
import { loadVAE } from '../weights/load.js';
import { IPAdapterPipeline } from './pipeline.js';
import { denoisedLatents, fitPreview, previewOf } from './preview.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

const distance = (a: RgbImage, b: RgbImage): number =>
  Math.sqrt(a.data.reduce((sum, value, i) => sum + (value - (b.data[i] as number)) ** 2, 0) / a.data.length);

const sized = (image: RgbImage, side: number): RgbImage => {
  const whole = { width: side, height: side };
  return resizeAndCrop(image, { ...whole, crop: { left: 0, top: 0, ...whole }, filter: 'bilinear' });
};

/** The image with its pixels in another order. */
const shuffled = ({ data, width, height }: RgbImage): RgbImage => {
  const count = width * height;
  const order = Array.from({ length: count }, (_, i) => (i * 37 + 11) % count);
  return { data: Uint8Array.from(order.flatMap((i) => [...data.subarray(3 * i, 3 * i + 3)])), width, height };
};

describe("with the demo's trained VAE", () => {
  const folder = join(import.meta.dirname, '../../demo');
  const vae = loadVAE(join(folder, 'models/vae'), { dtype: 'float32' });
  const downsample = 2 ** (vae.config.blockOutChannels.length - 1);
  const images = join(import.meta.dirname, '../../docs/images');
  const files = readdirSync(images).filter((name) => name.endsWith('.png'));

  it('shows an encoded image far better than with its pixels elsewhere', async () => {
    const map = fitPreview(vae, downsample);
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      const image = sized(await readImage(fileSource(join(images, file))), 64);
      const [preview] = tidy(() => {
        using _ = noGrad();
        const pixels = tensor(
          Float32Array.from(image.data, (byte) => byte / 127.5 - 1),
          [64, 64, 3],
        );
        const latents = vae.encode(pixels.permute(2, 0, 1).unsqueeze(0).contiguous()).mean;
        return previewOf(latents.mul(vae.config.scalingFactor), map);
      }) as [RgbImage];
      const small = sized(image, 64 / downsample);
      expect(distance(preview, small), file).toBeLessThan(0.5 * distance(preview, shuffled(small)));
      expect(distance(preview, small), file).toBeLessThan(45);
    }
  });

  it('leaves nothing', () => {
    const before = memoryStats().liveTensors;
    fitPreview(vae, downsample).dispose();
    expect(memoryStats().liveTensors).toBe(before);
  });
});

it.each(['epsilon', 'v_prediction'] as const)(
  'takes the noise out of latents, by a prediction of %s',
  (type) => {
    const config = parseSchedulerConfig(
      JSON.stringify({ ...sd15Scheduler, prediction_type: type }),
      'test',
    ).config;
    const generator = new Generator('cpu', 1);
    const [clean, noise] = [randn([2, 4, 4, 4], { generator }), randn([2, 4, 4, 4], { generator })];
    for (const t of [0, 400, 999]) {
      const bar = 1 / ((trainedSigmas(config)[t] as number) ** 2 + 1);
      const input = clean.mul(Math.sqrt(bar)).add(noise, Math.sqrt(1 - bar));
      const velocity = noise.mul(Math.sqrt(bar)).add(clean, -Math.sqrt(1 - bar));
      expectAllclose(denoisedLatents(config, t, input, type === 'epsilon' ? noise : velocity), clean, 1e-3);
    }
  },
);

describe('a pipeline', () => {
  let world: Adapted;
  beforeAll(async () => {
    world = await makeAdaptedWorld();
  });
  afterAll(() => world.remove());

  it.each<SamplerName>(['ddim', 'euler', 'dpmpp-2m'])(
    'emits previews every so many steps, and draws the same with %s',
    async (scheduler) => {
      using pipeline = await IPAdapterPipeline.load({ model: world.model });
      const previews: PreviewEvent[] = [];
      const options = { steps: 6, width: 64, height: 64, numImages: 2, scheduler };
      const quiet = await pipeline.generate(options);
      const drawn = await pipeline.generate(
        { ...options, previewSteps: 2 },
        { onEvent: (event) => event.type === 'preview' && previews.push(event) },
      );
      expect(drawn.map(({ data }) => data)).toEqual(quiet.map(({ data }) => data));
      expect(drawn[0]?.settings).toBe(quiet[0]?.settings);
      expect(previews.map(({ step, totalSteps }) => [step, totalSteps])).toEqual([
        [2, 6],
        [4, 6],
        [6, 6],
      ]);
      for (const { images } of previews)
        expect(images.map(({ width, height, data }) => [width, height, data.length])).toEqual([
          [8, 8, 192],
          [8, 8, 192],
        ]);
    },
  );
});
