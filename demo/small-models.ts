/**
 * @file Small models of the real classes in the real folder layout: diffusers' for Stable Diffusion, transformers'
 * for the image encoder. Their weights are random, so an adapter trained on them runs through every part of
 * training and draws nothing.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AutoencoderKL, parseVAEConfig } from '../src/models/autoencoder-kl.js';
import { CLIPTextModel, parseCLIPTextConfig } from '../src/models/clip-text-model.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from '../src/models/clip-vision-model.js';
import { UNet2DConditionModel } from '../src/models/unet-2d-condition.js';
import { parseUNetConfig } from '../src/models/unet-config.js';
import { initParameters } from '../src/nn/init.js';
import type { Module } from '../src/nn/module.js';
import { Generator, writeSafetensors } from '../src/torch/index.js';
import { writeTokenizer } from './tokenizer-files.js';

/** Width of the text states, which the UNet attends to. */
const TEXT_WIDTH = 64;

const unet = {
  _class_name: 'UNet2DConditionModel',
  sample_size: 8,
  block_out_channels: [32, 64, 96, 96],
  layers_per_block: 1,
  attention_head_dim: 4,
  cross_attention_dim: TEXT_WIDTH,
  norm_num_groups: 16,
};

const vae = {
  _class_name: 'AutoencoderKL',
  block_out_channels: [16, 32, 32, 32],
  down_block_types: Array(4).fill('DownEncoderBlock2D'),
  up_block_types: Array(4).fill('UpDecoderBlock2D'),
  layers_per_block: 1,
  norm_num_groups: 16,
  scaling_factor: 0.18215,
};

const textEncoder = (tokens: number) => ({
  model_type: 'clip_text_model',
  vocab_size: tokens,
  eos_token_id: tokens - 1,
  hidden_size: TEXT_WIDTH,
  intermediate_size: 4 * TEXT_WIDTH,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  hidden_act: 'quick_gelu',
});

const imageEncoder = {
  model_type: 'clip_vision_model',
  image_size: 56,
  patch_size: 14,
  hidden_size: 64,
  intermediate_size: 256,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  projection_dim: 64,
  hidden_act: 'gelu',
};

/** Stable Diffusion 1.5's own. */
const scheduler = {
  _class_name: 'PNDMScheduler',
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  clip_sample: false,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
};

/**
 * Writes the model folder and the image encoder's; the same for the same seed.
 * @param words what the tokenizer should know
 */
export function writeSmallModels(
  modelFolder: string,
  encoderFolder: string,
  words: readonly string[],
  seed: number,
): void {
  const generator = new Generator('cpu', seed);
  const write = (folder: string, config: object, module: Module<never[], unknown>, weights: string) => {
    initParameters(module as Module, generator);
    writeConfig(folder, 'config.json', config);
    writeSafetensors(join(folder, weights), module.namedParameters(), { format: 'pt' });
  };
  const diffusers = 'diffusion_pytorch_model.safetensors';
  const transformers = 'model.safetensors';
  const text = textEncoder(writeTokenizer(join(modelFolder, 'tokenizer'), words));
  const source = 'demo/small-models.ts';

  writeConfig(join(modelFolder, 'scheduler'), 'scheduler_config.json', scheduler);
  write(join(modelFolder, 'unet'), unet, new UNet2DConditionModel(parseUNetConfig(unet, source)), diffusers);
  write(join(modelFolder, 'vae'), vae, new AutoencoderKL(parseVAEConfig(vae, source)), diffusers);
  write(
    join(modelFolder, 'text_encoder'),
    text,
    new CLIPTextModel(parseCLIPTextConfig(text, source)),
    transformers,
  );
  const vision = new CLIPVisionModelWithProjection(parseCLIPVisionConfig(imageEncoder, source));
  write(encoderFolder, imageEncoder, vision, transformers);
}

function writeConfig(folder: string, file: string, config: object): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, file), `${JSON.stringify(config, null, 2)}\n`);
}
