/**
 * @file Writes Stable Diffusion 1.5 and CLIP ViT-H/14 in their published sizes and folder layout, with random float32 weights
 * (6.8 GB on disk), since a step's time does not depend on the weights' values.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeAdapter } from '../../src/adapters/adapter-file.js';
import { openImageEncoder } from '../../src/adapters/image-encoder.js';
import { makeFolder } from '../../src/base/make-folder.js';
import { writeSafetensors } from '../../src/formats/index.js';
import { CLIPTextModel, parseCLIPTextConfig } from '../../src/models/clip/clip-text-model.js';
import {
  CLIPVisionModelWithProjection,
  parseCLIPVisionConfig,
} from '../../src/models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../../src/models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../../src/models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../../src/models/vae/autoencoder-kl.js';
import { initParameters } from '../../src/nn/init.js';
import type { Module } from '../../src/nn/module.js';
import { Generator, noGrad } from '../../src/torch/index.js';
import { createAdapter } from '../../src/training/setup.js';
import { loadUNet } from '../../src/weights/load.js';
import { sd15 } from '../../src/weights/sd15.js';
import { vitH } from '../../test/published-image-encoder.js';

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
  const write = (
    folder: string,
    file: string,
    config: object,
    create: () => Module<never[], unknown>,
  ): void => {
    const path = join(root, folder);
    if (existsSync(join(path, file))) return;
    makeFolder(path);
    writeJson(join(path, 'config.json'), config);
    const model = create();
    initParameters(model, new Generator('cpu', 0));
    using _ = noGrad();
    writeSafetensors(join(path, file), model.namedParameters(), { format: 'pt' });
    for (const parameter of model.parameters()) parameter.dispose();
  };
  const diffusers = 'diffusion_pytorch_model.safetensors';
  const unet = { _class_name: 'UNet2DConditionModel', ...sd15.unet };
  write('model/unet', diffusers, unet, () => new UNet2DConditionModel(parseUNetConfig(unet, 'bench')));
  const vae = { _class_name: 'AutoencoderKL', ...sd15.vae };
  write('model/vae', diffusers, vae, () => new AutoencoderKL(parseVAEConfig(vae, 'bench')));
  const text = { model_type: 'clip_text_model', ...sd15.textEncoder };
  write(
    'model/text_encoder',
    'model.safetensors',
    text,
    () => new CLIPTextModel(parseCLIPTextConfig(text, 'bench')),
  );
  write(
    'image_encoder',
    'model.safetensors',
    vitH,
    () => new CLIPVisionModelWithProjection(parseCLIPVisionConfig(vitH, 'bench')),
  );
  const adapterFile = join(root, 'ip_adapter.safetensors');
  if (!existsSync(adapterFile)) {
    const models = {
      backbone: { sites: loadUNet(join(root, 'model/unet')).sites() },
      imageEncoder: openImageEncoder(join(root, 'image_encoder')),
    };
    const { adapter } = createAdapter(models, { numTokens: 16, seed: 0 }, undefined, 'cpu');
    writeAdapter(adapterFile, adapter.namedParameters());
  }
  makeFolder(join(root, 'model/scheduler'));
  writeJson(join(root, 'model/scheduler/scheduler_config.json'), scheduler);
}

function writeJson(file: string, content: object): void {
  writeFileSync(file, JSON.stringify(content));
}
