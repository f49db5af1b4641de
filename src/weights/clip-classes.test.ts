/** @file Every CLIP class is loaded as transformers 4 and 5 save it: with and without prefixes, in each file form and dtype. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectSameBytes, golden } from '../../test/golden.js';
import {
  readJson,
  type Tensors,
  weightsOf,
  writeBin,
  writeJson,
  writeShards,
} from '../../test/model-files.js';
import { writeSafetensors } from '../formats/index.js';
import type { Module } from '../nn/module.js';
import { arange, Generator, randn, type Tensor, zeros } from '../torch/index.js';
import { loadImageEncoder } from './image-encoders.js';
import { loadTextEncoder, loadTextEncoderWithProjection } from './load.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-clip-classes-'));
afterAll(() => rmSync(root, { recursive: true }));

const [textFolder, visionFolder] = ['text_encoder/text_encoder', 'image_encoder/image_encoder'].map(
  (name) => golden(name) as string,
) as [string, string];
const [textConfig, visionConfig] = [textFolder, visionFolder].map((folder) =>
  readJson(join(folder, 'config.json')),
);
const [text, vision] = [textFolder, visionFolder].map((folder) => weightsOf(folder, 'model')) as [
  Map<string, Tensor>,
  Map<string, Tensor>,
];
const projection = randn([40, textConfig.hidden_size], { generator: new Generator('cpu', 1) });
const textWithProjection = new Map([...text, ['text_projection.weight', projection]]);
const wholeConfig = {
  model_type: 'clip',
  projection_dim: 40,
  text_config: textConfig,
  vision_config: visionConfig,
};
const whole = new Map([...textWithProjection, ...vision, ['logit_scale', zeros([])]]);

const withoutPrefix = (tensors: Tensors): Tensors =>
  new Map(Array.from(tensors, ([key, tensor]) => [key.replace(/^(text|vision)_model\./, ''), tensor]));
const withPositionIds = (tensors: Tensors): Tensors => {
  const ids = arange(0, 77, 1, { dtype: 'int64' }).unsqueeze(0);
  return new Map([...tensors, ['text_model.embeddings.position_ids', ids]]);
};
const converted = (tensors: Tensors, dtype: 'bfloat16' | 'float16'): Tensors =>
  new Map(Array.from(tensors, ([key, tensor]) => [key, tensor.to(dtype)]));

const forms: [string, (folder: string, tensors: Tensors) => void][] = [
  ['safetensors', (folder, tensors) => writeSafetensors(join(folder, 'model.safetensors'), tensors)],
  ['safetensors shards', (folder, tensors) => writeShards(folder, 'model', 'safetensors', tensors)],
  ['.bin', (folder, tensors) => writeBin(join(folder, 'pytorch_model.bin'), tensors)],
  ['.bin shards', (folder, tensors) => writeShards(folder, 'pytorch_model', 'bin', tensors)],
];

function folderWith(config: object, tensors: Tensors, write = forms[0]?.[1] as (typeof forms)[0][1]): string {
  const folder = mkdtempSync(join(root, 'model-'));
  writeJson(join(folder, 'config.json'), config);
  write(folder, tensors);
  return folder;
}

function expectWeights(model: Module<never[], unknown>, expected: Tensors): void {
  const weights = model.namedParameters();
  expect([...weights.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, weight] of weights) expectSameBytes(weight, expected.get(key) as Tensor);
}

const textClasses: [string, object, Tensors][] = [
  ['CLIPTextModel (transformers 4)', textConfig, text],
  ['CLIPTextModel (transformers before 4.31)', textConfig, withPositionIds(text)],
  ['CLIPTextModel (transformers 5)', textConfig, withoutPrefix(text)],
  ['CLIPTextModelWithProjection (transformers 4 and 5)', textConfig, textWithProjection],
  ['CLIPModel', wholeConfig, whole],
];

describe.each(forms)('%s', (_form, write) => {
  it.each(textClasses)('%s: a text encoder', (_name, config, tensors) => {
    expectWeights(loadTextEncoder(folderWith(config, tensors, write)), text);
  });

  it.each(textClasses)('%s: a text encoder with its projection, if it has one', (name, config, tensors) => {
    const model = loadTextEncoderWithProjection(folderWith(config, tensors, write));
    if (name.startsWith('CLIPTextModel (')) expect(model).toBeNull();
    else expectWeights(model as NonNullable<typeof model>, textWithProjection);
  });

  it.each([
    ['CLIPVisionModelWithProjection', visionConfig, vision],
    ['CLIPModel', wholeConfig, whole],
  ])('%s: an image encoder', (_name, config, tensors) => {
    expectWeights(loadImageEncoder(folderWith(config, tensors, write)), vision);
  });
});

it.each(['bfloat16', 'float16'] as const)('keeps weights of transformers 5 in %s', (dtype) => {
  const folder = folderWith(textConfig, converted(withoutPrefix(text), dtype), (path, tensors) =>
    writeSafetensors(join(path, 'model.safetensors'), tensors),
  );
  expectWeights(loadTextEncoder(folder), converted(text, dtype));
});

it('says what an image encoder without projection is missing', () => {
  const bare = new Map([...vision].filter(([key]) => key !== 'visual_projection.weight'));
  for (const tensors of [bare, withoutPrefix(bare)])
    expect(() => loadImageEncoder(folderWith(visionConfig, tensors))).toThrow(
      /no visual_projection\.weight; they may be a CLIPVisionModel's/,
    );
});

it('refuses a weight of a CLIPTextModelWithProjection that no class has', () => {
  const folder = folderWith(textConfig, new Map([...text, ['text_projection.bias', zeros([40])]]));
  expect(() => loadTextEncoder(folder)).toThrow(/unexpected \(1\): text_projection\.bias/);
});

it('reports the projection that it does not use', () => {
  const messages: string[] = [];
  loadTextEncoder(folderWith(textConfig, textWithProjection), { onMessage: (line) => messages.push(line) });
  expect(messages).toEqual([expect.stringMatching(/^CLIPTextModel: .*; not used: text_projection\.weight$/)]);
});

it('refuses weights with and without prefix in one file', () => {
  const both = new Map([...text, ...withoutPrefix(text)]);
  expect(() => loadTextEncoder(folderWith(textConfig, both))).toThrow(/unexpected \(\d+\): embeddings\./);
});
