/** Image-to-image, inpainting and ControlNet from the options to the image; what diffusers draws is in golden-pipelines.test.ts. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import { makeInpaintingUNet, writeControlNet } from '../../test/controlnet.js';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { readJson, writeJson } from '../../test/model-files.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { samplerNames } from '../schedulers/config.js';
import { memoryStats } from '../torch/index.js';
import { generate, generateBatches } from './generate.js';
import type { GeneratedImage } from './generated-image.js';
import { IPAdapterPipeline } from './pipeline.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

let world: Adapted;
let models: PipelineOptions;
let pipeline: IPAdapterPipeline;
let controlled: IPAdapterPipeline;
let inpainting: IPAdapterPipeline;
const at = (name: string): string => join(world.root, name);

beforeAll(async () => {
  world = await makeAdaptedWorld();
  models = { model: world.model, imageEncoder: world.imageEncoder, adapter: world.adapter };
  pipeline = await IPAdapterPipeline.load(models);
  for (const i of [1, 2]) writeControlNet(at(`control-${i}`), join(world.model, 'unet'), i);
  controlled = await IPAdapterPipeline.load({ ...models, controlnet: [at('control-1'), at('control-2')] });
  cpSync(world.model, at('inpainting'), { recursive: true });
  makeInpaintingUNet(at('inpainting/unet'));
  inpainting = await IPAdapterPipeline.load({ ...models, model: at('inpainting') });
  // The left half stays.
  const mask = `<svg xmlns="http://www.w3.org/2000/svg" width="160" height="128"><rect x="80" width="80" height="128" fill="white"/></svg>`;
  await sharp(Buffer.from(mask)).flatten({ background: 'black' }).png().toFile(at('mask.png'));
  await sharp({ create: { width: 80, height: 64, channels: 3, background: 'black' } })
    .png()
    .toFile(at('black.png'));
  const dot = `<svg xmlns="http://www.w3.org/2000/svg" width="80" height="64"><rect x="33" y="18" width="3" height="3" fill="white"/></svg>`;
  await sharp(Buffer.from(dot)).flatten({ background: 'black' }).png().toFile(at('dot.png'));
});
afterAll(() => world.remove());

const draw = async (options: PromptOptions, of = pipeline): Promise<GeneratedImage> => {
  const [image] = await of.generate({ steps: 4, images: [world.picture(0)], ...options });
  return image as GeneratedImage;
};

/** The mean difference of two images' levels, in columns from `from` to `to`. */
function difference(a: RgbImage, b: RgbImage, from = 0, to = a.width): number {
  let [sum, count] = [0, 0];
  for (let y = 0; y < a.height; y++)
    for (let i = (y * a.width + from) * 3; i < (y * a.width + to) * 3; i++, count++)
      sum += Math.abs((a.data[i] as number) - (b.data[i] as number));
  return sum / count;
}

describe('image-to-image', () => {
  it('takes the size of the image, in multiples of a latent, or a given one', async () => {
    const { width, height } = await draw({ initImage: world.picture(1) });
    expect([width, height]).toEqual([80, 64]);
    const resized = await draw({ initImage: world.picture(1), width: 64 });
    expect([resized.width, resized.height]).toEqual([64, 64]);
  });

  it('changes more with more strength, and follows the reference image', async () => {
    const initImage = world.picture(1);
    const of = (options: PromptOptions) => draw({ initImage, ...options });
    const [weak, strong, other] = [
      await of({ strength: 0.25 }),
      await of({}),
      await of({ images: [world.picture(3)] }),
    ];
    const least = await of({ strength: 0.25, images: [world.picture(3)] });
    expect(difference(strong, other)).toBeGreaterThan(difference(weak, least));
    expect(await of({})).toEqual(strong);
  });

  it('says what it was made with, and that an image was resized', async () => {
    const told: string[] = [];
    const options = { steps: 4, initImage: world.picture(1), width: 64, height: 64 };
    const [image] = await pipeline.generate(options, {
      onEvent: (event) => event.type === 'message' && told.push(event.text),
    });
    expect(told).toEqual([`${world.picture(1)} is 80 × 64 pixels, and is resized to 64 × 64.`]);
    expect(image?.parameters).toMatch(/Init image: .*1\.png, Denoising strength: 0\.8/);
  });

  // Each of 54 samplers, of which the order decides which calls are left out.
  it('walks with every sampler', async () => {
    for (const scheduler of samplerNames) {
      const image = await draw({ initImage: world.picture(1), strength: 0.6, steps: 5, scheduler });
      expect(new Set(image.data).size, scheduler).toBeGreaterThan(2);
    }
  });
});

describe('inpainting', () => {
  it('keeps what is black in the mask, with either kind of model', async () => {
    const init = { initImage: world.picture(1), maskImage: at('mask.png') };
    // Of the same seed, so that the kept latents are the same: only the decoder looks beyond the mask.
    const [changed, other] = [await draw(init), await draw({ ...init, images: [world.picture(3)] })];
    expect(difference(changed, other, 0, 32)).toBeLessThan(0.8 * difference(changed, other, 48, 80));
    expect(changed.parameters).toMatch(/Denoising strength: 1, Mask image: .*mask\.png/);
    const nine = await draw(init, inpainting);
    const otherMask = await draw({ ...init, maskImage: world.picture(0) }, inpainting);
    expect(difference(nine, otherMask)).toBeGreaterThan(0.1);
    expect(await draw({ ...init, strength: 0.5 }, inpainting)).not.toEqual(nine);
  });

  it('leaves no tensor', async () => {
    const before = memoryStats().liveTensors;
    const init = { initImage: world.picture(1), maskImage: at('mask.png'), strength: 0.8, vaeTiling: true };
    await draw(init);
    await draw(init, inpainting);
    await draw({ ...init, controlImage: [world.picture(2), world.picture(3)], guessMode: true }, controlled);
    expect(memoryStats().liveTensors).toBe(before);
  });
});

describe('ControlNet', () => {
  const images = () => [world.picture(2), world.picture(3)];

  it('acts as strongly and as long as it is told', async () => {
    const quick = { width: 64, height: 64 };
    const without = await draw(quick);
    const of = (options: PromptOptions) => draw({ ...quick, controlImage: images(), ...options }, controlled);
    const both = await of({});
    expect(difference(both, without)).toBeGreaterThan(0.5);
    expect((await of({ controlnetScale: 0 })).data).toEqual(without.data);
    expect((await of({ controlnetScale: [1, 1], controlRange: [0, 1, 0, 1] })).data).toEqual(both.data);
    const first = await of({ controlnetScale: [1, 0] });
    expect((await of({ controlRange: [0, 1, 1, 1] })).data).toEqual(first.data);
    expect(first.data).not.toEqual(both.data);
    expect((await of({ controlImage: images().reverse() })).data).not.toEqual(both.data);
    expect((await of({ guessMode: true })).data).not.toEqual(both.data);
    using one = await IPAdapterPipeline.load({ ...models, controlnet: at('control-1') });
    expect((await draw({ ...quick, controlImage: images()[0] as string }, one)).data).toEqual(first.data);
    expect(both.parameters).toMatch(
      /ControlNet 1: .*control-1, Control image 1: .*2\.png, ControlNet 1 scale: 1, ControlNet 1 start: 0, ControlNet 1 end: 1, ControlNet 2: /,
    );
    expect(controlled.summary).toEqual(expect.arrayContaining([`ControlNet: ${at('control-1')}`]));
  });

  it('gives the size, and goes with image-to-image and inpainting', async () => {
    const { width, height } = await draw({ controlImage: images() }, controlled);
    expect([width, height]).toEqual([80, 64]);
    const init = { initImage: world.picture(1), maskImage: at('mask.png') };
    const plain = await draw(init);
    const both = await draw({ ...init, controlImage: images() }, controlled);
    expect(both.data).not.toEqual(plain.data);
    expect(difference(both, plain, 0, 32)).toBeLessThan(difference(both, plain, 48, 80) / 2);
  });

  it('refuses what is for another model', async () => {
    await expect(IPAdapterPipeline.load({ ...models, controlnet: at('model/unet') })).rejects.toThrow(
      /--controlnet \(controlnet\) is .*ControlNetModel/,
    );
    await expect(IPAdapterPipeline.load({ ...models, controlnet: 'none' })).rejects.toThrow(
      /Expected a model at none/,
    );
  });
});

it('the VAE works in tiles where an image is larger than it was trained on', async () => {
  const large = { initImage: world.picture(1), width: 136, height: 96, strength: 0.5 };
  const [whole, tiled] = [await draw(large), await draw({ ...large, vaeTiling: true })];
  expect(tiled.data).not.toEqual(whole.data);
  expect(difference(whole, tiled)).toBeLessThan(40);
  const small = { width: 64, height: 64 };
  expect((await draw({ ...small, vaeTiling: true })).data).toEqual((await draw(small)).data);
  cpSync(world.model, at('small-tiles'), { recursive: true });
  const config = at('small-tiles/vae/config.json');
  writeJson(config, { ...readJson(config), sample_size: 24 });
  using other = await IPAdapterPipeline.load({ ...models, model: at('small-tiles') });
  await expect(draw({ ...large, vaeTiling: true }, other)).rejects.toThrow(/cannot cut tiles of 24 pixels/);
});

describe('refuses', () => {
  const init = () => world.picture(1);
  it.each<[string, () => PromptOptions, RegExp]>([
    [
      'a strength that leaves no step',
      () => ({ initImage: init(), strength: 0.2 }),
      /strength.* leaves none of 4 steps; give at least 0\.25/,
    ],
    ['a strength of 0', () => ({ initImage: init(), strength: 0 }), /leaves none of 4 steps/],
    [
      'a strength above 1',
      () => ({ initImage: init(), strength: 1.5 }),
      /^strength is 1\.5; it must be a number from 0 to 1$/,
    ],
    ['a strength without an image', () => ({ strength: 0.5 }), /--strength \(strength\) is for --init-image/],
    [
      'a mask without an image',
      () => ({ maskImage: at('mask.png') }),
      /--mask-image \(maskImage\) needs --init-image/,
    ],
    [
      'a black mask',
      () => ({ initImage: init(), maskImage: at('black.png') }),
      /Expected white in --mask-image .*black\.png has none/,
    ],
    [
      'a mask whose white is too small',
      () => ({ initImage: init(), maskImage: at('dot.png') }),
      /larger white part .* 80 × 64 pixels it covers none of the 10 × 8 latents/,
    ],
    ['a missing image', () => ({ initImage: 'none.png' }), /none\.png/],
    [
      'an image of another kind',
      () => ({ initImage: 3 }) as never,
      /^initImage is 3; it must be a path, or an image/,
    ],
    [
      'a control image without a ControlNet',
      () => ({ controlImage: init() }),
      /--control-image .* needs --controlnet/,
    ],
    ['a scale without a ControlNet', () => ({ controlnetScale: 0.5 }), /controlnetScale is for ControlNets/],
    ['guess mode without a ControlNet', () => ({ guessMode: true }), /guessMode is for ControlNets/],
  ])('%s', async (_, options, message) => {
    await expect(draw(options())).rejects.toThrow(message);
  });

  it.each<[string, () => PromptOptions, RegExp]>([
    [
      'too few control images',
      () => ({ controlImage: init() }),
      /has 1 images for 2 ControlNets .* give one for each/,
    ],
    ['no control images', () => ({}), /has 0 images for 2 ControlNets/],
    [
      'too many scales',
      () => ({ controlImage: [init(), init()], controlnetScale: [1, 1, 1] }),
      /--controlnet-scale .* has 3 values for 2 ControlNets/,
    ],
    [
      'too many ranges',
      () => ({ controlImage: [init(), init()], controlRange: [0, 1, 0, 1, 0, 1] }),
      /--control-range .* has 3 pairs for 2/,
    ],
    [
      'a reversed range',
      () => ({ controlImage: [init(), init()], controlRange: [1, 0] }),
      /controlRange is \[1,0\]; it must be pairs/,
    ],
    [
      'half a range',
      () => ({ controlImage: [init(), init()], controlRange: [0.5] }),
      /must be pairs of start and end/,
    ],
  ])('with two ControlNets %s', async (_, options, message) => {
    await expect(draw(options(), controlled)).rejects.toThrow(message);
  });

  it('text alone, or an image without a mask, for a model for inpainting', async () => {
    const message = /This model is for inpainting: give --init-image .* and --mask-image/;
    await expect(draw({}, inpainting)).rejects.toThrow(message);
    await expect(draw({ initImage: init() }, inpainting)).rejects.toThrow(message);
  });

  it('options of one prompt of several, before any model is loaded', async () => {
    const draw = async (prompts: PromptOptions[], given: object) => {
      const images = [];
      for await (const batch of generateBatches({ ...models, steps: 2, ...given }, {}, prompts))
        images.push(...batch);
      return images;
    };
    const controlImage = world.picture(2);
    const controlnet = at('control-1');
    expect(await draw([{ controlImage }, { controlImage, controlnetScale: 0 }], { controlnet })).toHaveLength(
      2,
    );
    await expect(draw([{ controlImage }, {}], { controlnet, model: 'none' })).rejects.toThrow(
      /has 0 images for 1/,
    );
    await expect(draw([{}, { strength: 1 }], { model: 'none' })).rejects.toThrow(/is for --init-image/);
  });

  it('options that do not go together before any model is loaded', async () => {
    await expect(generate({ ...models, model: 'none', strength: 0.5 })).rejects.toThrow(
      /is for --init-image/,
    );
    const control = { controlnet: 'none', controlImage: [init(), init()] };
    await expect(generate({ ...models, model: 'none', ...control })).rejects.toThrow(
      /2 images for 1 ControlNets/,
    );
  });
});
