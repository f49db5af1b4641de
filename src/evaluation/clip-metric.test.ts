import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose } from '../../test/golden.js';
import { openImageEncoder } from '../adapters/image-encoder.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { clipPixels } from '../generation/image-prompt.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import { Generator, noGrad, randn, type Tensor, tensor, zeros } from '../torch/index.js';
import { loadTextEncoder } from '../weights/load.js';
import { ClipMetric } from './clip-metric.js';

const target = { device: 'cpu' };
let world: World;
let root: string;
const at = (...parts: string[]) => join(root, ...parts);
const vision = () => join(world.root, 'image_encoder');
const text = () => join(world.root, 'model', 'text_encoder');
const projection = randn([40, 32], { generator: new Generator('cpu', 3) });

beforeAll(async () => {
  world = await makeWorld(2);
  root = mkdtempSync(join(tmpdir(), 'clip-'));
  const config = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const weights = (folder: string) => readSafetensors(join(folder, 'model.safetensors')).tensors;
  // A whole CLIP: both sides in one file, the tokenizer beside it.
  cpSync(join(world.root, 'model', 'tokenizer'), at('clip'), { recursive: true });
  const whole = {
    model_type: 'clip',
    projection_dim: 40,
    text_config: config(text()),
    vision_config: config(vision()),
  };
  writeFileSync(at('clip', 'config.json'), JSON.stringify(whole));
  const all = new Map([
    ...weights(text()),
    ...weights(vision()),
    ['text_projection.weight', projection],
    ['logit_scale', zeros([])],
  ]);
  writeSafetensors(at('clip', 'model.safetensors'), all as Map<string, Tensor>);
  // Its text side alone, as CLIPTextModelWithProjection.
  cpSync(text(), at('text'), { recursive: true });
  cpSync(join(world.root, 'model', 'tokenizer'), at('tokenizer'), { recursive: true });
  rmSync(at('text', 'model.safetensors'));
  writeSafetensors(
    at('text', 'model.safetensors'),
    new Map([...weights(text()), ['text_projection.weight', projection]]),
  );
});
afterAll(() => {
  world.remove();
  rmSync(root, { recursive: true });
});

const unit = (rows: Tensor) => rows.div(rows.square().sum([-1], true).sqrt());
const image = () => readImage(fileSource(join(world.root, 'images', '0.png')));

describe('ClipMetric', () => {
  it('embeds images and texts by a whole CLIP, each as a vector of length 1', async () => {
    using _ = noGrad();
    const metric = ClipMetric.load(at('clip'), undefined, target);
    const encoder = openImageEncoder(vision()).load(target);
    const expected = unit(encoder.encode(clipPixels(encoder.preprocess, [await image()], 'crop'), 'pooled'));
    expectAllclose(metric.embedImages([await image()]), expected, 1e-6);
    const tokenizer = ClipTokenizer.load(at('tokenizer'));
    const ids = ['a', 'b c'].flatMap((caption) => tokenizer.encode(caption));
    const { poolerOutput } = loadTextEncoder(text()).call(tensor(ids, [2, 77], 'int64'));
    expectAllclose(
      metric.embedTexts(['a', 'b c']),
      unit(poolerOutput.matmul(projection.transpose(0, 1))),
      1e-5,
    );
  });

  it('takes an image encoder and a text encoder with projection', async () => {
    const whole = ClipMetric.load(at('clip'), undefined, target);
    const pair = ClipMetric.load(vision(), at('text'), target);
    expectAllclose(pair.embedTexts(['a']), whole.embedTexts(['a']), 1e-6);
    expectAllclose(pair.embedImages([await image()]), whole.embedImages([await image()]), 1e-6);
  });

  it('takes an image encoder alone', () => {
    expect(ClipMetric.load(vision(), undefined, target).readsText).toBe(false);
  });

  it('names what does not go together', () => {
    expect(() => ClipMetric.load(vision(), text(), target)).toThrow(CheckpointError);
    expect(() => ClipMetric.load(vision(), text(), target)).toThrow(/32 wide and the image embeddings 40/);
    expect(() => ClipMetric.load(at('clip'), at('text'), target)).toThrow(ConfigError);
    expect(() => ClipMetric.load(at('none'), undefined, target)).toThrow(
      /a model at .*none but there is no such folder or file/,
    );
    mkdirSync(at('empty'), { recursive: true });
    expect(() => ClipMetric.load(vision(), at('empty'), target)).toThrow(/empty/);
  });
});
