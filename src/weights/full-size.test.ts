/** @file Files of the published names, shapes and sizes: every tensor becomes the right parameter, without taking memory. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { golden } from '../../test/golden.js';
import { ldmFile, v1 } from '../../test/ldm-layout.js';
import { sparsePosition, writeJson, writeSparse } from '../../test/model-files.js';
import { vitH } from '../../test/published-image-encoder.js';
import { sd15 as sd15UNet } from '../../test/published-unets.js';
import { CLIPTextModel, parseCLIPTextConfig } from '../models/clip/clip-text-model.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from '../models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../models/vae/autoencoder-kl.js';
import type { Tensor } from '../torch/index.js';
import { loadImageEncoder } from './image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from './load.js';
import { sd15 } from './sd15.js';
import { openSingleFile } from './single-file.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-full-size-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

type Shapes = Map<string, readonly number[]>;
const shapesOf = (model: { namedParameters(): Map<string, Tensor> }): Shapes =>
  new Map(Array.from(model.namedParameters(), ([key, { shape }]) => [key, shape]));

/** Creates a folder with a sparse file of those shapes. */
function folderOf(name: string, config: object, file: string, shapes: Shapes): string {
  const folder = join(root, name);
  mkdirSync(folder);
  writeJson(join(folder, 'config.json'), config);
  writeSparse(join(folder, file), shapes);
  return folder;
}

/** Returns the published name of each parameter's tensor. */
function origins(model: { namedParameters(): Map<string, Tensor> }, shapes: Shapes): Record<string, string> {
  const published = [...shapes.keys()];
  return Object.fromEntries(
    Array.from(model.namedParameters(), ([key, tensor]) => [
      key,
      published[sparsePosition(tensor)] as string,
    ]),
  );
}

const sameNames = (keys: Iterable<string>) => Object.fromEntries(Array.from(keys, (key) => [key, key]));
const memory = () => process.memoryUsage().rss;

const vision = new CLIPVisionModelWithProjection(parseCLIPVisionConfig(vitH, 'ViT-H'));
const text = new CLIPTextModel(parseCLIPTextConfig(sd15.textEncoder, 'SD 1.5'));

describe('Stable Diffusion 1.5 in the diffusers layout', () => {
  it('UNet', () => {
    const shapes = shapesOf(new UNet2DConditionModel(parseUNetConfig(sd15UNet, 'SD 1.5')));
    const folder = folderOf('unet', sd15UNet, 'diffusion_pytorch_model.safetensors', shapes);
    const initialMemory = memory();
    const unet = loadUNet(folder);
    expect(memory() - initialMemory).toBeLessThan(400 << 20);
    expect(origins(unet, shapes)).toEqual(sameNames(shapes.keys()));
    expect(shapes.size).toBe(686);
  });

  it('VAE, with its old names', () => {
    const now = shapesOf(new AutoencoderKL(parseVAEConfig(sd15.vae, 'SD 1.5')));
    const old = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
    const rename = (key: string) =>
      Object.entries(old).reduce((name, [from, to]) => name.replace(`.${from}.`, `.${to}.`), key);
    const shapes = new Map(Array.from(now, ([key, shape]) => [rename(key), shape]));
    const config = { _class_name: 'AutoencoderKL', ...sd15.vae };
    const folder = folderOf('vae', config, 'diffusion_pytorch_model.safetensors', shapes);
    expect(origins(loadVAE(folder), shapes)).toEqual(
      Object.fromEntries([...now.keys()].map((key) => [key, rename(key)])),
    );
    expect([...shapes.keys()].filter((key) => !now.has(key))).toHaveLength(16);
  });

  it('text encoder, with position_ids', () => {
    const shapes: Shapes = new Map([['text_model.embeddings.position_ids', [1, 77]], ...shapesOf(text)]);
    const config = { model_type: 'clip_text_model', ...sd15.textEncoder };
    const messages: string[] = [];
    const folder = folderOf('text_encoder', config, 'model.safetensors', shapes);
    const model = loadTextEncoder(folder, { onMessage: (message) => messages.push(message) });
    expect(origins(model, shapes)).toEqual(sameNames(shapesOf(text).keys()));
    expect(messages).toEqual([
      `CLIPTextModel: 196 tensors, float32, from ${join(folder, 'model.safetensors')}; not used: text_model.embeddings.position_ids`,
    ]);
  });
});

describe('CLIP ViT-H/14', () => {
  it('image encoder as published with IP-Adapter', () => {
    const shapes: Shapes = new Map([['vision_model.embeddings.position_ids', [1, 257]], ...shapesOf(vision)]);
    const config = vitH;
    const model = loadImageEncoder(folderOf('image_encoder', config, 'model.safetensors', shapes));
    expect(origins(model, shapes)).toEqual(sameNames(shapesOf(vision).keys()));
    expect(shapes.size).toBe(521);
  });

  it('either model of a whole CLIPModel', () => {
    const textConfig = {
      hidden_act: 'gelu',
      hidden_size: 1024,
      intermediate_size: 4096,
      num_attention_heads: 16,
      num_hidden_layers: 24,
    };
    const textPart = shapesOf(new CLIPTextModel(parseCLIPTextConfig(textConfig, 'ViT-H')));
    const shapes: Shapes = new Map([
      ['logit_scale', []],
      ['text_model.embeddings.position_ids', [1, 77]],
      ...textPart,
      ...shapesOf(vision),
      ['text_projection.weight', [1024, 1024]],
    ]);
    const config = {
      model_type: 'clip',
      logit_scale_init_value: 2.6592,
      projection_dim: 1024,
      text_config: { model_type: 'clip_text_model', ...textConfig },
      // In published files the part's own projection_dim is wrong.
      vision_config: { ...vitH, projection_dim: 512 },
    };
    const folder = folderOf('clip', config, 'model.safetensors', shapes);
    const messages: string[] = [];
    const onMessage = (message: string) => messages.push(message);
    const images = loadImageEncoder(folder, { onMessage });
    expect(origins(images, shapes)).toEqual(sameNames(shapesOf(vision).keys()));
    expect(origins(loadTextEncoder(folder, { onMessage }), shapes)).toEqual(sameNames(textPart.keys()));
    const unused = messages.map((message) => message.split('not used: ')[1]);
    expect(unused).toEqual([
      `logit_scale, text_model.* (${textPart.size + 1}), text_projection.weight`,
      'logit_scale, text_model.embeddings.position_ids, vision_model.* (519), visual_projection.weight, text_projection.weight',
    ]);
  });
});

describe('Stable Diffusion 1.5 in one file', () => {
  const recorded = JSON.parse(readFileSync(golden('ldm/diffusers_keys.json') as string, 'utf8'));
  const prefixed = (prefix: string, keys: Record<string, string>) =>
    Object.fromEntries(Object.entries(keys).map(([key, ldmKey]) => [key, prefix + ldmKey]));

  it.each(['float32', 'float16'] as const)('%s', (dtype) => {
    const shapes = ldmFile(v1);
    const path = join(root, `v1-5-pruned-emaonly-${dtype}.safetensors`);
    writeSparse(path, shapes, dtype);
    const initialMemory = memory();
    const file = openSingleFile(path);
    const [unet, vae, textEncoder] = [loadUNet(file), loadVAE(file), loadTextEncoder(file)];
    expect(memory() - initialMemory).toBeLessThan(400 << 20);
    expect(unet.conv_in.weight.dtype).toBe(dtype);

    const actual = [origins(unet, shapes), origins(vae, shapes), origins(textEncoder, shapes)];
    expect(actual[0]).toEqual(prefixed('model.diffusion_model.', recorded.v1_unet));
    expect(actual[1]).toEqual(prefixed('first_stage_model.', recorded.v1_vae));
    expect(actual[2]).toEqual(prefixed('cond_stage_model.transformer.', sameNames(shapesOf(text).keys())));

    const used = actual.flatMap((names) => Object.values(names));
    const unused = [...file.unused, 'cond_stage_model.transformer.text_model.embeddings.position_ids'];
    expect(unused).toHaveLength(13);
    expect([...used, ...unused].sort()).toEqual([...shapes.keys()].sort());
  });
});
