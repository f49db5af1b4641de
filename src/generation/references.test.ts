import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { expectAllclose } from '../../test/golden.js';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { writeTorchZip } from '../formats/index.js';
import { encodePng } from '../images/png.js';
import type { GenerateOptions, PromptOptions } from '../options/generate-types.js';
import type { CombineMode } from '../options/reference-options.js';
import { memoryStats, type Tensor, tensor } from '../torch/index.js';
import { combineFeatures, combineTokens } from './combine.js';
import { embed } from './embed.js';
import { generate } from './generate.js';
import { IPAdapterPipeline } from './pipeline.js';
import { loadPipelineModels } from './pipeline-models.js';

let world: Adapted;
let models: GenerateOptions;
let pipeline: IPAdapterPipeline;
beforeAll(async () => {
  world = await makeAdaptedWorld();
  models = { model: world.model, imageEncoder: world.imageEncoder, adapter: world.adapter };
  pipeline = await IPAdapterPipeline.load(models);
});
afterAll(() => {
  pipeline[Symbol.dispose]();
  world.remove();
});

const quick = { steps: 3, width: 64, height: 64 };
const draw = async (options: PromptOptions, of = pipeline): Promise<Uint8Array> =>
  (await of.generate({ ...quick, images: [world.picture(0)], ...options }))[0]?.data as Uint8Array;
const largest = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);

/** An image file whose left part is white. */
async function maskFile(name: string, share: number): Promise<string> {
  const data = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) =>
    Math.floor(i / 3) % 64 < 64 * share ? 255 : 0,
  );
  const file = join(world.root, name);
  writeFileSync(file, await encodePng({ data, width: 64, height: 64 }));
  return file;
}

describe('combine', () => {
  const features = tensor([1, 2, 0, 4, 3, 2, 0, 0, 5, 2, 0, 8], [3, 4]);
  const references = [0, 1, 2].map((i) => ({
    features: features.slice(0, i, i + 1),
    negatives: null,
    weight: i === 2 ? 0.5 : 1,
  }));

  // The rows with their weights: [1, 2, 0, 4], [3, 2, 0, 0], [2.5, 1, 0, 4].
  it.each<[CombineMode, number[]]>([
    ['add', [6.5, 5, 0, 8]],
    ['subtract', [1 - 2.75, 2 - 1.5, 0, 4 - 2]],
    ['average', [6.5 / 3, 5 / 3, 0, 8 / 3]],
    ['norm-average', [6.5 / 3 / Math.hypot(1, 3, 2.5), 5 / 9, 0, 8 / 3 / Math.hypot(4, 4)]],
  ])('%s', (mode, expected) => {
    expectAllclose(combineFeatures(mode, references), tensor(expected, [1, 4]), 1e-6);
    expect(combineFeatures(mode, references.slice(0, 1)).toNumbers()).toEqual([1, 2, 0, 4]);
  });

  it('concat appends tokens, token-average takes shares of them', () => {
    const tokens = tensor(
      Array.from({ length: 12 }, (_, i) => i),
      [3, 2, 2],
    );
    expect(combineTokens('concat', tokens, references).shape).toEqual([1, 6, 2]);
    expectAllclose(
      combineTokens('token-average', tokens, references),
      tensor(
        [0, 1, 2, 3].map((i) => (i + (i + 4) + 0.5 * (i + 8)) / 2.5),
        [1, 2, 2],
      ),
      1e-6,
    );
    expect(combineFeatures('token-average', references).toNumbers()).toEqual(features.toNumbers());
  });
});

describe('references of one adapter', () => {
  it('combine in six ways, all different; an image given twice is as once in concat and averages', async () => {
    const images = [world.picture(0), world.picture(3)];
    const modes = ['concat', 'add', 'subtract', 'average', 'norm-average', 'token-average'] as const;
    const drawn = new Map<string, Uint8Array>();
    for (const combine of modes) drawn.set(combine, await draw({ images, combine }));
    expect(new Set(Array.from(drawn.values(), (data) => Buffer.from(data).toString('base64'))).size).toBe(6);
    expect(await draw({ images })).toEqual(drawn.get('concat'));
    const once = await draw({});
    for (const combine of ['concat', 'average', 'token-average'] as const) {
      const twice = await draw({ images: [world.picture(0), world.picture(0)], combine });
      expect(largest(twice, once), combine).toBeLessThanOrEqual(1);
    }
  });

  it('may be of different number in the jobs of a batch', async () => {
    const jobs = [[0], [0, 3], [0, 3, 1]].map((list) => ({
      images: list.map((i) => world.picture(i)),
      seed: 5,
    }));
    const batch = await pipeline.generateEach(jobs, quick);
    const alone = await pipeline.generateEach(jobs, { ...quick, batchSize: 1 });
    for (const [i, { data }] of batch.entries())
      expect(largest(data, alone[i]?.data as Uint8Array), `job ${i}`).toBeLessThanOrEqual(1);
  });

  it('act in their masks alone: a white mask is as none, two masks are two adapters with one each', async () => {
    const white = await maskFile('white.png', 1);
    const half = await maskFile('half.png', 0.5);
    const plain = await draw({});
    expect(largest(await draw({ masks: [white] }), plain)).toBeLessThanOrEqual(1);
    const masked = await draw({ masks: [half] });
    expect(largest(masked, plain)).toBeGreaterThan(1);
    const images = [world.picture(0), world.picture(3)];
    const together = await draw({ images, masks: [half, white], weights: [1, 0.5] });
    const entry = { adapter: world.adapter, imageEncoder: world.imageEncoder };
    using twice = await IPAdapterPipeline.load({ model: world.model, adapters: [entry, entry] });
    const [separate] = await twice.generate({
      ...quick,
      adapters: [
        { images: [images[0] as string], masks: [half] },
        { images: [images[1] as string], masks: [white], scale: 0.5 },
      ],
    });
    expect(largest(together, separate?.data as Uint8Array)).toBeLessThanOrEqual(1);
    const [inMemory] = await Promise.all([
      draw({ masks: [{ data: new Uint8Array(64 * 64 * 3).fill(255), width: 64, height: 64 }] }),
    ]);
    expect(largest(inMemory, plain)).toBeLessThanOrEqual(1);
  });

  it('of one file share the adapter in memory', () => {
    const entry = { adapter: world.adapter, imageEncoder: world.imageEncoder };
    using loaded = loadPipelineModels({ model: world.model, adapters: [entry, entry] });
    expect(loaded.adapters[1]?.module).toBe(loaded.adapters[0]?.module);
  });

  it('act in a share of the noise schedule, or of the steps', async () => {
    const always = await draw({});
    // Three steps at 667, 334 and 1 of 1000 timesteps: the first is above half of the schedule.
    const early = await draw({ range: [0, 0.5] });
    expect(await draw({ range: [0, 0.34] })).toEqual(early);
    expect(await draw({ range: [0, 0.34], rangeIn: 'steps' })).toEqual(early);
    // PNDM calls the model four times in three steps.
    expect(await draw({ range: [0, 0.5], rangeIn: 'steps' })).not.toEqual(early);
    expect(await draw({ range: [0, 0.33] })).toEqual(await draw({ scale: 0 }));
    expect(early).not.toEqual(always);
  });

  it('have a negative side: an image, noise, black', async () => {
    const plain = await draw({});
    const settings: PromptOptions[] = [
      { negativeImage: world.picture(3) },
      { negativeNoise: 'fade' },
      { negativeNoise: 'gaussian', noiseStrength: 0.5 },
      { negativeNoise: 'dissolve', noiseStrength: 0.5, negativeImage: world.picture(3) },
      { nullImage: 'black' },
    ];
    const drawn = [plain];
    for (const one of settings) {
      const data = await draw(one);
      expect(drawn, JSON.stringify(one)).not.toContainEqual(data);
      expect(await draw({ ...one, guidanceScale: 1 })).toEqual(await draw({ guidanceScale: 1 }));
      drawn.push(data);
    }
  });

  it('count as much as a word says', async () => {
    expect(await draw({ influence: 'most' })).toEqual(await draw({}));
    expect(await draw({ influence: 'some' })).toEqual(await draw({ scale: 0.5 }));
    const [image] = await generate({
      ...{ ...models, ...quick },
      images: [world.picture(0)],
      influence: 'little',
      combine: 'average',
    });
    expect(image?.parameters).toContain('IP-Adapter influence: little, IP-Adapter combine: average');
    expect(image?.parameters).not.toContain('IP-Adapter scale');
  });

  it('that are not square keep the part that is asked for', async () => {
    // 128 × 64: red left half, blue right half.
    const wide: RgbImage = {
      data: Uint8Array.from({ length: 128 * 64 * 3 }, (_, i) =>
        i % 3 === (Math.floor(i / 3) % 128 < 64 ? 0 : 2) ? 255 : 0,
      ),
      width: 128,
      height: 64,
    };
    const square = (channel: number): RgbImage => ({
      data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i % 3 === channel ? 255 : 0)),
      width: 64,
      height: 64,
    });
    const left = await draw({ images: [square(0)] });
    const right = await draw({ images: [square(2)] });
    expect(await draw({ images: [wide], imageFit: 'crop-left' })).toEqual(left);
    expect(await draw({ images: [wide], imageFit: 'crop-right' })).toEqual(right);
    const padded: RgbImage = { data: new Uint8Array(128 * 128 * 3), width: 128, height: 128 };
    padded.data.set(wide.data, 32 * 128 * 3);
    expect(await draw({ images: [wide], imageFit: 'pad' })).toEqual(await draw({ images: [padded] }));
  });

  it('keep nothing in memory', async () => {
    const half = await maskFile('half2.png', 0.5);
    const options: PromptOptions = {
      images: [world.picture(0), world.picture(3)],
      masks: [half, half],
      negativeImage: world.picture(1),
      combine: 'norm-average',
      embedsScaling: 'k+mean-v-c-penalty',
    };
    await draw(options);
    const before = memoryStats().liveTensors;
    await draw(options);
    await expect(draw({ ...options, blockScales: { nothing: 1 } })).rejects.toThrow(/names nothing/);
    expect(memoryStats().liveTensors).toBe(before);
  });
});

describe('embeddings of diffusers and ComfyUI', () => {
  it.each(['adapter', 'base'] as const)('take the place of images: %s', async (which) => {
    const kind = which === 'base' ? 'base' : 'plus';
    using one = await IPAdapterPipeline.load({ ...models, adapter: world[which] });
    const images = [world.picture(0), world.picture(3)];
    const expected = await draw({ images }, one);
    const folder = join(world.root, `embeds-${which}`);
    mkdirSync(folder);
    const files = await Promise.all(
      (['diffusers', 'comfyui'] as const).map(async (format) => {
        const out = join(folder, `${format}.ipadpt`);
        await embed({ imageEncoder: world.imageEncoder, images, format, kind, out });
        return out;
      }),
    );
    for (const file of files) expect(await draw({ images: [file] }, one)).toEqual(expected);
    const [diffusers = '', comfyui = ''] = files;
    // The file of diffusers has the negative side, too.
    using withoutEncoder = await IPAdapterPipeline.load({ model: world.model, adapter: world[which] });
    expect(await draw({ images: [diffusers] }, withoutEncoder)).toEqual(expected);
    if (which === 'adapter')
      await expect(draw({ images: [comfyui] }, withoutEncoder)).rejects.toThrow(
        /Expected an image encoder for what stands for no image, which .*comfyui.ipadpt does not have/,
      );
    const mixed = await draw({ images: [diffusers, world.picture(1)], weights: [0.5, 1] }, one);
    expect(mixed).not.toEqual(expected);
  });

  it.each<[string, () => Tensor[] | Tensor, RegExp]>([
    [
      'of another kind',
      () => tensor([1, 2], [1, 2]),
      /one tensor of hidden states in .* there is none \(it holds a tensor \[1, 2\]\)/,
    ],
    ['of three sides', () => tensor(new Float32Array(3), [3, 1, 1, 1]), /first dimension must be 2, or 1/],
    [
      'of another encoder',
      () => [tensor(new Float32Array(14), [2, 1, 1, 7])],
      /another image encoder .*48 wide, and these are 7 wide/,
    ],
  ])('refuse a file %s', async (name, content, message) => {
    const file = join(world.root, `${name.replaceAll(' ', '-')}.ipadpt`);
    writeTorchZip(file, content());
    await expect(draw({ images: [file] })).rejects.toThrow(message);
  });

  it('are written for one kind, with an ending of their own', async () => {
    const options = { imageEncoder: world.imageEncoder, images: [world.picture(0)] };
    const file = (end: string): string => join(world.root, `file${end}`);
    await expect(
      embed({ ...options, format: 'diffusers', kind: 'plus', out: file('.safetensors') }),
    ).rejects.toThrow(/--out \(out\) is .*for --format diffusers it must end in \.ipadpt/);
    await expect(embed({ ...options, out: file('.pt') })).rejects.toThrow(/must end in \.safetensors/);
    await expect(embed({ ...options, format: 'comfyui', out: file('.pt') })).rejects.toThrow(
      /--kind \(kind\) is required for --format comfyui/,
    );
  });
});

describe('settings that do not go together', () => {
  it.each<[PromptOptions, RegExp]>([
    [{ influence: 'some', scale: 0.5 }, /--influence \(influence\) and --scale \(scale\) are both given/],
    [
      { weightType: 'style', blockScales: { mid: 1 } },
      /--weight-type \(weightType\) style and --block-scales \(blockScales\) are both given/,
    ],
    [{ weightType: 'style' }, /style is for the layers of .*; give --block-scales/],
    [{ compositionScale: 1 }, /--composition-scale \(compositionScale\) has no effect without --weight-type/],
    [{ styleScale: 1, weightType: 'composition' }, /no effect without --weight-type .*composition-precise/],
    [{ noiseStrength: 1 }, /no effect without --negative-noise/],
    [{ maskFit: 'diffusers' }, /no effect without --masks/],
    [{ rangeIn: 'steps' }, /no effect without --range/],
    [{ blockScales: { up: { block_9: 1 } } }, /names up\.block_9.*did you mean up\.block_/],
    [
      { weightType: 'stile' as 'style' },
      /weightType is "stile"; it must be one of linear, .*; did you mean style\?/,
    ],
    [{ weights: [0] }, /weight above 0/],
  ])('%j', async (options, message) => {
    await expect(draw(options)).rejects.toThrow(ConfigError);
    await expect(draw(options)).rejects.toThrow(message);
  });

  it('masks', async () => {
    const black = await maskFile('black.png', 0);
    const white = await maskFile('white2.png', 1);
    await expect(draw({ masks: [black] })).rejects.toThrow(/has .*black\.png, which is black everywhere/);
    await expect(draw({ masks: [white, white] })).rejects.toThrow(
      /has 2 masks for 1 --images \(images\); give one for all, or one for each/,
    );
    await expect(draw({ masks: ['none.png'] })).rejects.toThrow(/none\.png/);
    const file = join(world.root, 'features.safetensors');
    await expect(draw({ masks: [file] })).rejects.toThrow(/which holds embeddings; a mask is an image/);
    await embed({ imageEncoder: world.imageEncoder, images: [world.picture(0)], out: file });
    await expect(draw({ negativeImage: file, negativeNoise: 'fade' })).rejects.toThrow(
      /--negative-noise \(negativeNoise\) is for images, and .* holds embeddings/,
    );
    const images = [world.picture(0), world.picture(3)];
    const jobs = [{ images }, { images, weights: [1, 2] }];
    await expect(pipeline.generateEach(jobs, { ...quick, masks: [white, white] })).rejects.toThrow(
      /equal weights, and those of image 2 are 1, 2; set batchSize to 1/,
    );
  });
});
