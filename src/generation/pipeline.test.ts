import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { Recorder } from '../../test/recorder.js';
import { readAdapter, writeAdapter } from '../adapters/adapter-file.js';
import { ConfigError } from '../base/errors.js';
import type { RunEvent } from '../base/run-context.js';
import { writeSafetensors } from '../formats/index.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { memoryStats, randn, type Tensor } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { embed } from './embed.js';
import { generate } from './generate.js';
import { IPAdapterPipeline } from './pipeline.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

let world: Adapted;
let all: PipelineOptions;
let pipeline: IPAdapterPipeline;
beforeAll(async () => {
  world = await makeAdaptedWorld();
  all = { model: world.model, imageEncoder: world.imageEncoder, adapter: world.adapter };
  pipeline = await IPAdapterPipeline.load(all);
});
afterAll(() => world.remove());

const quick = { steps: 3, width: 64, height: 64 };
const draw = async (options: PromptOptions, of = pipeline) =>
  (await of.generate({ ...quick, images: [world.picture(0)], ...options })).map(({ data }) =>
    createHash('sha256').update(data).digest('hex'),
  );

describe('generate', () => {
  it('returns RGB images of the requested size, each with its seed', async () => {
    const images = await pipeline.generate({
      ...quick,
      width: 72,
      images: [world.picture(0)],
      numImages: 3,
      seed: 7,
      batchSize: 2,
    });
    expect(images.map(({ seed, width, height }) => [seed, width, height])).toEqual(
      [7, 8, 9].map((seed) => [seed, 72, 64]),
    );
    for (const { data } of images) expect(data).toHaveLength(72 * 64 * 3);
    expect(images[0]?.parameters).toMatch(/Steps: 3, .*Seed: 7, Size: 72x64/);
    expect((await images[0]?.toPng())?.subarray(1, 4).toString()).toBe('PNG');
  });

  it('gives the same bytes for the same seed, others for another seed, image, text or scale', async () => {
    const [first] = await draw({});
    expect(await draw({})).toEqual([first]);
    const others: PromptOptions[] = [
      { seed: 1 },
      { images: [world.picture(3)] },
      { prompt: 'b' },
      { negativePrompt: 'b' },
      { scale: 0.5 },
    ];
    for (const other of others) expect(await draw(other), JSON.stringify(other)).not.toEqual([first]);
  });

  it('tells in the parameters what changed guidance', async () => {
    const parameters = async (options: PromptOptions): Promise<string | undefined> =>
      (await pipeline.generate({ ...quick, images: [world.picture(0)], ...options }))[0]?.parameters;
    expect(await parameters({})).not.toContain('Guidance');
    expect(await parameters({ guidanceRescale: 0.7, guidanceRange: [0.2, 1] })).toContain(
      'CFG scale: 7.5, Guidance rescale: 0.7, Guidance range: 0.2-1, Seed: 0',
    );
  });

  it('warns where the clip skip is not the one of the training', async () => {
    const adapter = join(world.root, 'skipped.safetensors');
    writeAdapter(adapter, readAdapter(world.adapter), { clipSkip: 1 });
    const parameters = async (clipSkip: number): Promise<string | undefined> =>
      (await pipeline.generate({ ...quick, clipSkip, images: [world.picture(0)] }))[0]?.parameters;
    expect(await parameters(1)).toContain('Clip skip: 2,');
    expect(await parameters(0)).not.toContain('Clip skip');
    const warnings = async (clipSkip: number): Promise<string[]> => {
      const told: string[] = [];
      using loaded = await IPAdapterPipeline.load({ ...all, adapter });
      const options = { ...quick, images: [world.picture(0)], clipSkip };
      await loaded.generate(options, {
        onEvent: (event) => event.type === 'message' && told.push(event.text),
      });
      return told.filter((text) => text.includes('clip skip'));
    };
    expect(await warnings(1)).toEqual([]);
    expect(await warnings(0)).toEqual([
      `${adapter} was trained with a clip skip of 1, and --clip-skip (clipSkip) is 0.`,
    ]);
  });

  it('generates each image of a batch as if it were alone, up to rounding', async () => {
    const [, second] = await pipeline.generate({ ...quick, images: [world.picture(0)], numImages: 2 });
    const [alone] = await pipeline.generate({ ...quick, images: [world.picture(0)], seed: 1 });
    const far = second?.data.filter((byte, i) => Math.abs(byte - (alone?.data[i] as number)) > 1);
    expect(far).toHaveLength(0);
  });

  it('with scale 0, or without image prompts, equals a pipeline without an adapter', async () => {
    using plain = await IPAdapterPipeline.load({ model: world.model });
    const expected = await draw({ images: [], prompt: 'a' }, plain);
    expect(await draw({ prompt: 'a', scale: 0 })).toEqual(expected);
    expect(await draw({ prompt: 'a', images: [] })).toEqual(expected);
    expect(await draw({ prompt: 'a' })).not.toEqual(expected);
  });

  it('merges LoRAs, given as path:scale or with a scale of their own', async () => {
    const key = 'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0';
    const { shape } = loadUNet(join(world.model, 'unet'))
      .namedParameters()
      .get('mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight') as Tensor;
    const matrices = { down: randn([1, shape[1] as number]), up: randn([shape[0] as number, 1]) };
    const path = join(world.root, 'lora.safetensors');
    const named = Object.entries(matrices).map(([side, one]) => [`${key}.lora_${side}.weight`, one] as const);
    writeSafetensors(path, new Map(named));
    const drawn = async (loras: PipelineOptions['loras']) => {
      using loaded = await IPAdapterPipeline.load({ ...all, loras });
      return await draw({}, loaded);
    };
    const without = await draw({});
    expect(await drawn([`${path}:0`])).toEqual(without);
    using loaded = await IPAdapterPipeline.load({ ...all, loras: [`${path}:0.5`] });
    const [image] = await loaded.generate({ ...quick, images: [world.picture(0)] });
    expect(image?.parameters).toMatch(/, LoRA: "?[^,]*lora\.safetensors:0\.5"?, IP-Adapter: /);
    const half = await drawn([{ path, scale: 0.5 }]);
    expect(half).not.toEqual(without);
    expect(await drawn([`${path}:0.5`])).toEqual(half);
    expect(await drawn([path])).toEqual(await drawn([{ path }]));
    await expect(drawn([`${path}:strong`])).rejects.toThrow(
      /loras\[0\] is ".*:strong"; it must be a path, path:scale with a scale from -100 to 100/,
    );
  });

  it('takes files, images in memory and embeddings alike', async () => {
    const expected = await draw({});
    const image = await readImage(fileSource(world.picture(0)));
    expect(await draw({ images: [image] })).toEqual(expected);
    const file = join(world.root, 'one.safetensors');
    await embed({ imageEncoder: world.imageEncoder, images: [world.picture(0)], out: file });
    expect(await draw({ images: [file] })).toEqual(expected);
    using withoutEncoder = await IPAdapterPipeline.load({ model: world.model, adapter: world.adapter });
    expect(await draw({ images: [file] }, withoutEncoder)).toEqual(expected);
    await expect(draw({}, withoutEncoder)).rejects.toThrow(
      /image encoder .*--image-encoder .*ip-adapter embed/,
    );
  });

  it('mixes several images by weight', async () => {
    const [a, b] = [world.picture(0), world.picture(3)];
    const both = await draw({ images: [a, b] });
    expect(
      await draw({
        images: [a, b],
      }),
    ).toEqual(both);
    expect(await draw({ images: [a, b], weights: [3, 1] })).not.toEqual(both);
    expect(await draw({ images: [a, b], weights: [1, 0] })).toEqual(await draw({ images: [a] }));
    await expect(draw({ images: [a], weights: [0] })).rejects.toThrow(/weight above 0/);
    // A file of embeddings counts as many images as it has rows.
    const file = join(world.root, 'both.safetensors');
    await embed({ imageEncoder: world.imageEncoder, images: [a, b], out: file });
    expect(await draw({ images: [file] })).toEqual(both);
  });

  it('squeezes or cuts references that are not square', async () => {
    expect(await draw({ imageFit: 'resize' })).not.toEqual(await draw({ imageFit: 'crop' }));
  });

  it('generates an image for each job', async () => {
    const jobs = [0, 3, 0].map((i) => ({ images: [world.picture(i)], seed: i }));
    const images = await pipeline.generateEach(jobs, { ...quick, batchSize: 3 });
    expect(images.map(({ seed }) => seed)).toEqual([0, 3, 0]);
    // The place in a batch may change a last bit (LibTorch 2's products do so), and with it a level of 255.
    const [first, other, again] = images.map(({ data }) => data) as [Uint8Array, Uint8Array, Uint8Array];
    const difference = (data: Uint8Array) =>
      Math.max(...Array.from(data, (level, i) => Math.abs(level - (first[i] as number))));
    expect(difference(again)).toBeLessThanOrEqual(1);
    expect(difference(other)).toBeGreaterThan(1);
    const alone = await pipeline.generateEach(jobs, { ...quick, batchSize: 1 });
    expect(alone[2]?.data).toEqual(alone[0]?.data);
    await expect(pipeline.generateEach([...jobs, {}], quick)).rejects.toThrow(/for every image, or for none/);
  });

  it('reports every step and can be stopped', async () => {
    const { progress, onEvent } = new Recorder();
    await pipeline.generate({ ...quick, numImages: 2, batchSize: 1 }, { onEvent });
    expect(progress).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((done) => [done, 8]));
    const reason = new Error('enough');
    await expect(pipeline.generate(quick, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('a hook that throws ends it with its own error, and nothing is kept', async () => {
    await draw({});
    const before = memoryStats().liveTensors;
    const wrong = new Error('mine');
    const onEvent = (event: RunEvent) => {
      if (event.type === 'progress' && event.done === 2) throw wrong;
    };
    const options = { ...quick, images: [world.picture(0)] };
    await expect(pipeline.generate(options, { onEvent })).rejects.toBe(wrong);
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('takes one adapter as the only entry of a list, and an entry for each adapter alone', async () => {
    const [expected] = await pipeline.generate({ ...quick, images: [world.picture(0)], scale: 0.5 });
    const [listed] = await pipeline.generate({
      ...quick,
      adapters: [{ images: [world.picture(0)], scale: 0.5 }],
    });
    expect(listed?.data).toEqual(expected?.data);
    const { adapter = '', imageEncoder, ...models } = all;
    const entry = { adapter, imageEncoder };
    const [whole] = await generate({
      ...{ ...models, ...quick },
      adapters: [{ ...entry, images: [world.picture(0)], scale: 0.5 }],
    });
    expect(whole?.data).toEqual(expected?.data);
    const [short] = await generate({ ...all, ...quick, images: [world.picture(0)], scale: 0.5 });
    expect(short?.data).toEqual(expected?.data);
    await expect(pipeline.generate({ ...quick, adapters: [{}, {}] })).rejects.toThrow(
      /adapters has 2 entries for 1 loaded adapters/,
    );
    await expect(pipeline.generate({ ...quick, adapters: [{}], scale: 1 })).rejects.toThrow(
      /adapters and scale/,
    );
  });

  it('gives the same when calls overlap', async () => {
    const one = await draw({});
    const two = await draw({ scale: 0.5, prompt: 'b' });
    expect(await Promise.all([draw({}), draw({ scale: 0.5, prompt: 'b' })])).toEqual([one, two]);
  });

  it('draws overlapping calls in turn, and ends a waiting one at once where its signal aborts', async () => {
    const order: string[] = [];
    const onEvent = (name: string) => (event: RunEvent) => {
      if (event.type === 'progress') order.push(name);
    };
    const stop = new AbortController();
    const options = { ...quick, images: [world.picture(0)] };
    const calls = [
      pipeline.generate(options, { onEvent: onEvent('a') }),
      pipeline.generate(options, { onEvent: onEvent('b'), signal: stop.signal }),
      pipeline.generate(options, { onEvent: onEvent('c') }),
    ];
    stop.abort(new Error('enough'));
    const [a, b, c] = await Promise.allSettled(calls);
    expect([a?.status, b?.status, c?.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(order).toEqual([...Array(4).fill('a'), ...Array(4).fill('c')]);
  });

  it('is stopped by a signal after the step that is being drawn', async () => {
    const stop = new AbortController();
    const steps: number[] = [];
    const onEvent = (event: RunEvent) => {
      if (event.type !== 'progress') return;
      steps.push(event.done);
      if (event.done === 2) stop.abort(new Error('enough'));
    };
    const options = { ...quick, images: [world.picture(0)] };
    await expect(pipeline.generate(options, { onEvent, signal: stop.signal })).rejects.toThrow('enough');
    expect(steps).toEqual([1, 2]);
  });

  it('ends its calls and releases its models when disposed, also in the middle of a step', async () => {
    const before = memoryStats().liveTensors;
    const one = await IPAdapterPipeline.load(all);
    const options = { ...quick, images: [world.picture(0)] };
    const onEvent = (event: RunEvent) => {
      if (event.type === 'progress') one[Symbol.dispose]();
    };
    const results = await Promise.allSettled([one.generate(options, { onEvent }), one.generate(options)]);
    for (const result of results)
      expect(String((result as PromiseRejectedResult).reason)).toMatch(/pipeline is disposed/);
    await expect(one.generate(options)).rejects.toThrow(/pipeline is disposed.*Load another/);
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('draws with a base adapter, whose prompt is one embedding and whose negative is zeros', async () => {
    using base = await IPAdapterPipeline.load({ ...all, adapter: world.base });
    expect(base.summary[0]).toBe('IP-Adapter (base): 4 image tokens, from an embedding 40 wide');
    const expected = await draw({}, base);
    expect(await draw({ images: [world.picture(3)] }, base)).not.toEqual(expected);
    expect(await draw({ scale: 0 }, base)).toEqual(await draw({ scale: 0 }));
    const file = join(world.root, 'base-embedding.safetensors');
    await embed({ imageEncoder: world.imageEncoder, images: [world.picture(0)], out: file });
    using withoutEncoder = await IPAdapterPipeline.load({ model: world.model, adapter: world.base });
    expect(await draw({ images: [file] }, withoutEncoder)).toEqual(expected);
  });

  it('keeps nothing', async () => {
    await draw({});
    const before = memoryStats().liveTensors;
    await draw({ numImages: 2 });
    await draw({ scheduler: 'dpmpp-2m-karras' });
    await expect(draw({ images: ['none.png'] })).rejects.toThrow(/none.png/);
    expect(memoryStats().liveTensors).toBe(before);
  });

  it.each([
    [{ steps: 0 }, /^steps is 0; it must be a whole number from 1 to 10,000$/],
    [{ width: 60 }, /width is 60; it must be a multiple of 8/],
    [{ range: [0, 2] }, /^range\[1\] is 2; it must be a number from 0 to 1$/],
    [{ scheduler: 'heun-2' }, /^scheduler is "heun-2"; it must be one of /],
    [{ sacle: 1 }, /Unknown option sacle/],
    [{ images: [{ path: 'a.png' }] }, /^images\[0\] is {"path":"a\.png"}; it must be a path, or an image/],
    [{ steps: 2000 }, /at most 1000 steps/],
  ])('refuses %j', async (options, message) => {
    const attempt = draw(options as PromptOptions);
    await expect(attempt).rejects.toThrow(ConfigError);
    await expect(draw(options as PromptOptions)).rejects.toThrow(message);
  });
});
