import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { CheckpointError } from '../base/errors.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';

import { zeros } from '../torch/index.js';
import { IPAdapterPipeline } from './pipeline.js';

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

describe('load', () => {
  it('says what it found', () => {
    expect(pipeline.summary.join('\n')).toMatch(
      /IP-Adapter Plus: 16 image tokens, from hidden states 48 wide\n.*cross-attention 32 wide\nOn (cpu in float32|cuda in float16)/,
    );
  });

  it('reads a checkpoint folder, .safetensors and .bin alike', async () => {
    const expected = await draw({});
    for (const adapter of [world.checkpoint, world.bin]) {
      using other = await IPAdapterPipeline.load({ ...all, adapter });
      expect(await draw({}, other)).toEqual(expected);
    }
  });

  it('names a wrong encoder, a wrong variant and a wrong model, with the remedy', async () => {
    const { tensors } = readSafetensors(world.adapter);
    const rewritten = (name: string, change: (key: string) => [number, number][] | undefined) => {
      const file = join(world.root, `${name}.safetensors`);
      writeSafetensors(
        file,
        new Map(
          Array.from(tensors, ([key, value]) => {
            const swaps = new Map(change(key) ?? []);
            return [key, zeros(value.shape.map((size) => swaps.get(size) ?? size))];
          }),
        ),
      );
      return file;
    };
    const load = (adapter: string) => IPAdapterPipeline.load({ ...all, adapter });
    const vitH = rewritten('vit-h', (key) =>
      key === 'image_proj.proj_in.weight' ? [[48, 1280]] : undefined,
    );
    await expect(load(vitH)).rejects.toThrow(CheckpointError);
    await expect(load(vitH)).rejects.toThrow(
      /another image encoder than .*image_encoder: it reads image features 1280 wide, and these are 48 wide. Give .*ViT-H\/14/,
    );
    const sdxl = rewritten('sdxl', (key) =>
      key === 'image_proj.proj_out.weight' ? [[32, 2048]] : undefined,
    );
    await expect(load(sdxl)).rejects.toThrow(
      /is for Stable Diffusion XL .* the model is a model with cross-attention 32 wide/,
    );
    const faceId = join(world.root, 'faceid.safetensors');
    const shapes = {
      'image_proj.proj.0.weight': [48, 48],
      'image_proj.proj.2.weight': [128, 48],
      'image_proj.norm.weight': [32],
      'ip_adapter.1.to_k_ip.weight': [16, 32],
    };
    writeSafetensors(faceId, new Map(Object.entries(shapes).map(([key, shape]) => [key, zeros(shape)])));
    await expect(load(faceId)).rejects.toThrow(
      /is an IP-Adapter FaceID, which is not supported; supported are IP-Adapter Plus, /,
    );
    await expect(load(join(world.root, 'none.safetensors'))).rejects.toThrow(/none.safetensors/);
  });

  it('needs an adapter for image prompts, and features of its own encoder', async () => {
    using plain = await IPAdapterPipeline.load({ model: world.model });
    await expect(draw({}, plain)).rejects.toThrow(/Expected an adapter for image prompts/);
    const other = join(world.root, 'other.safetensors');
    writeSafetensors(
      other,
      new Map(['hidden_states', 'zero_hidden_states', 'image_embeds'].map((key) => [key, zeros([1, 5, 64])])),
    );
    await expect(draw({ images: [other] })).rejects.toThrow(/another image encoder than .*other.safetensors/);
    await expect(draw({ images: [world.adapter] })).rejects.toThrow(
      /Expected hidden_states in .* make such a file with ip-adapter embed/,
    );
  });

  it.each([
    [{ model: undefined }, /^model is required/],
    [{ dtype: 'float16' }, /float16 needs --device cuda/],
    [{ device: 'tpu' }, /^device is "tpu"; it must be cpu, cuda or cuda:N$/],
  ])('refuses %j', async (change, message) => {
    const options = { ...all, device: 'cpu', ...change } as PipelineOptions;
    await expect(IPAdapterPipeline.load(options)).rejects.toThrow(message);
  });

  it('runs in bfloat16, near to float32', async () => {
    using half = await IPAdapterPipeline.load({ ...all, dtype: 'bfloat16' });
    const [one] = await pipeline.generate({ ...quick, guidanceScale: 1, images: [world.picture(0)] });
    const [other] = await half.generate({ ...quick, guidanceScale: 1, images: [world.picture(0)] });
    const difference = one?.data.reduce(
      (sum, byte, i) => sum + Math.abs(byte - (other?.data[i] as number)),
      0,
    ) as number;
    expect(difference / (one?.data.length as number)).toBeLessThan(8);
  });
});

describe('loadAdapters', () => {
  it('gives the images of a pipeline that was loaded with them, in any order and number', async () => {
    const { model, imageEncoder, adapter, base } = { ...world };
    using replaced = await IPAdapterPipeline.load(all);
    const sets = [[base], [], [adapter, base], [adapter]];
    for (const files of sets) {
      const adapters = files.map((file) => ({ adapter: file, imageEncoder }));
      await replaced.loadAdapters(adapters);
      using fresh = await IPAdapterPipeline.load({ model, adapters });
      expect(replaced.summary).toEqual(fresh.summary);
      const options = { images: undefined, adapters: files.map(() => ({ images: [world.picture(0)] })) };
      expect(await draw(options, replaced)).toEqual(await draw(options, fresh));
      const [image] = await replaced.generate({ ...quick, ...options });
      const [expected] = await fresh.generate({ ...quick, ...options });
      expect(image?.settings).toBe(expected?.settings);
    }
  });

  it('leaves the adapters as they were where it fails, also while images are generated', async () => {
    using replaced = await IPAdapterPipeline.load(all);
    const expected = await draw({}, replaced);
    const { base } = world;
    await expect(replaced.loadAdapters([{ adapter: join(world.root, 'none.bin') }])).rejects.toThrow(
      /none\.bin/,
    );
    await expect(replaced.loadAdapters([{ adapter: base, imageEncoder: world.model }])).rejects.toThrow();
    const during = draw({}, replaced);
    await expect(replaced.loadAdapters([])).rejects.toThrow(/Images are being generated/);
    expect(await during).toEqual(expected);
    expect(await draw({}, replaced)).toEqual(expected);
  });
});
