/**
 * @file Writes Stable Diffusion 1.5 and CLIP ViT-H/14 in their published sizes and folder layout, with random float32 weights
 * (6.8 GB on disk), since a step's time does not depend on the weights' values.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeAdapter } from '../../src/adapters/adapter-file.js';
import { openImageEncoder } from '../../src/adapters/image-encoder.js';
import { makeFolder } from '../../src/base/make-folder.js';
import { CLIPTextModel, parseCLIPTextConfig } from '../../src/models/clip/clip-text-model.js';
import {
  CLIPVisionModelWithProjection,
  parseCLIPVisionConfig,
} from '../../src/models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../../src/models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../../src/models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../../src/models/vae/autoencoder-kl.js';
import { type AdapterModels, createAdapter } from '../../src/training/setup.js';
import { loadUNet } from '../../src/weights/load.js';
import { sd15 } from '../../src/weights/sd15.js';
import { vitH } from '../../test/published-image-encoder.js';
import { type WritePart, writeRandom } from './write-part.js';

const scheduler = {
  _class_name: 'PNDMScheduler',
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  beta_start: 0.00085,
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
};

/** Writes `root/model`, `root/image_encoder` and `root/ip_adapter.safetensors`, unless they exist. */
export function writeFullSizeModels(root: string): void {
  writeStableDiffusion(root);
  writeImageEncoder(root);
  writeAdapterFor(root, openImageEncoder(join(root, 'image_encoder')));
}

/** Writes CLIP ViT-H/14 as `root/image_encoder`, unless it exists. */
export function writeImageEncoder(root: string, write: WritePart = writeRandom): void {
  write(
    join(root, 'image_encoder'),
    'model.safetensors',
    vitH,
    () => new CLIPVisionModelWithProjection(parseCLIPVisionConfig(vitH, 'bench')),
  );
}

/** Writes a new Plus adapter for `root/model` as `root/ip_adapter.safetensors`, unless there is one. */
export function writeAdapterFor(root: string, imageEncoder: AdapterModels['imageEncoder']): void {
  const adapterFile = join(root, 'ip_adapter.safetensors');
  if (existsSync(adapterFile)) return;
  const models = {
    backbone: { sites: loadUNet(join(root, 'model/unet')).sites() },
    imageEncoder,
  };
  const { adapter } = createAdapter(models, { numTokens: 16, seed: 0 }, undefined, 'cpu');
  writeAdapter(adapterFile, adapter.namedParameters());
}

/** Writes Stable Diffusion 1.5 as `root/model`, without a tokenizer. */
export function writeStableDiffusion(root: string, write: WritePart = writeRandom): void {
  const diffusers = 'diffusion_pytorch_model.safetensors';
  const unet = { _class_name: 'UNet2DConditionModel', ...sd15.unet };
  write(
    join(root, 'model/unet'),
    diffusers,
    unet,
    () => new UNet2DConditionModel(parseUNetConfig(unet, 'bench')),
  );
  const vae = { _class_name: 'AutoencoderKL', ...sd15.vae };
  write(join(root, 'model/vae'), diffusers, vae, () => new AutoencoderKL(parseVAEConfig(vae, 'bench')));
  const text = { model_type: 'clip_text_model', ...sd15.textEncoder };
  write(
    join(root, 'model/text_encoder'),
    'model.safetensors',
    text,
    () => new CLIPTextModel(parseCLIPTextConfig(text, 'bench')),
  );
  makeFolder(join(root, 'model/scheduler'));
  writeJson(join(root, 'model/scheduler/scheduler_config.json'), scheduler);
}

function writeJson(file: string, content: object): void {
  writeFileSync(file, JSON.stringify(content));
}
