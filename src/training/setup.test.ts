import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { expectSameBytes, golden } from '../../test/golden.js';
import { readAdapter, writeAdapter } from '../adapters/adapter-file.js';
import { ImageProjModel } from '../adapters/base.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import { Resampler, type ResamplerConfig } from '../adapters/resampler.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { initParameters } from '../nn/init.js';
import type { TrainableKind } from '../options/train-options.js';
import { Generator, type Tensor } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { createAdapter } from './setup.js';

const folder = mkdtempSync(join(tmpdir(), 'parts-'));
afterAll(() => rmSync(folder, { recursive: true }));

const unet = loadUNet(golden('unet/unet') as string);
interface Changes {
  numTokens?: number;
  width?: number;
  model?: UNet2DConditionModel;
  kind?: TrainableKind;
}

const create = (
  startFrom?: string,
  { numTokens = 16, width = 48, model = unet, kind }: Changes = {},
): IPAdapter =>
  createAdapter(
    {
      backbone: { sites: model.sites() },
      imageEncoder: { folder: 'encoder', type: 'clip', widths: { tokens: width, pooled: 40 } },
    },
    { numTokens, seed: 3, kind },
    startFrom,
    'cpu',
  ).adapter;
const sizesOf = ({ image_proj }: IPAdapter): ResamplerConfig => (image_proj as Resampler).config;

it('makes a new one as wide inside as its tokens, the same from the same seed', () => {
  const adapter = create(undefined, { numTokens: 4 });
  expect(sizesOf(adapter)).toEqual({
    ...{
      dim: 32,
      depth: 4,
      dimHead: 64,
      heads: 1,
      numQueries: 4,
      embeddingDim: 48,
      outputDim: 32,
      ffMult: 4,
    },
  });
  const again = create(undefined, { numTokens: 4 }).namedParameters();
  for (const [key, value] of adapter.namedParameters()) {
    expectSameBytes(value, again.get(key) as Tensor);
    expect(value.requiresGrad).toBe(true);
  }
});

it.each([
  [1024, 12],
  [768, 12],
  [128, 2],
])('gives a model with a cross-attention %i wide %i heads', (width, heads) => {
  const config = JSON.parse(readFileSync(join(golden('unet/unet') as string, 'config.json'), 'utf8'));
  const model = new UNet2DConditionModel(parseUNetConfig({ ...config, cross_attention_dim: width }, 'test'));
  initParameters(model, new Generator('cpu', 0));
  expect(sizesOf(create(undefined, { model }))).toMatchObject({ dim: width, heads, dimHead: 64 });
});

it('takes sizes and weights from the file that it starts from', () => {
  const sizes = { dim: 40, depth: 2, dimHead: 64, heads: 3, numQueries: 16, embeddingDim: 48, ffMult: 2 };
  const other = new IPAdapter(unet.sites(), new Resampler({ ...sizes, outputDim: 32 })).init(
    new Generator('cpu', 1),
  );
  const file = join(folder, 'other.safetensors');
  writeAdapter(file, other.namedParameters());
  const adapter = create(file);
  expect(sizesOf(adapter)).toEqual({ ...sizes, outputDim: 32 });
  for (const [key, value] of readAdapter(file)) {
    const loaded = adapter.namedParameters().get(key) as Tensor;
    expectSameBytes(loaded, value);
    expect(loaded.requiresGrad).toBe(true);
  }
});

it('refuses a file that does not fit, each in its own words', () => {
  const file = join(folder, 'plus.safetensors');
  writeAdapter(file, create().namedParameters());
  expect(() => create(file, { numTokens: 4 })).toThrow(
    /image tokens of .*plus.safetensors are 16, and --num-tokens is 4; leave --num-tokens out\.$/,
  );
  expect(() => create(file, { width: 40 })).toThrow(
    /another image encoder than encoder: it reads image features 48 wide, and these are 40 wide/,
  );
  const demo = loadUNet(join(import.meta.dirname, '../../demo/models/unet'), { dtype: 'float32' });
  expect(() => create(file, { model: demo })).toThrow(/cross-attention 32 wide.* 128 wide/);
  const base = join(folder, 'base.safetensors');
  const projection = new ImageProjModel({ embeddingDim: 48, numTokens: 4, crossAttentionDim: 32 }).init(
    new Generator('cpu', 1),
  );
  writeAdapter(base, new IPAdapter(unet.sites(), projection).init(new Generator('cpu', 1)).namedParameters());
  expect(() => create(base)).toThrow(/base.safetensors was trained with another image encoder/);
  expect(() => create(file, { kind: 'base' })).toThrow(
    /plus.safetensors is an IP-Adapter Plus, and --kind is base; leave --kind out/,
  );
  expect(() => create(undefined, { kind: 'full-face' })).toThrow(
    /--num-tokens is 16, but an IP-Adapter Full Face/,
  );
});
