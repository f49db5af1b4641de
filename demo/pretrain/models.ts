/**
 * @file Configs of the demo's models, and functions that create and write them. They are the real classes in the real folder
 * layout, small enough to train all of them on two CPU cores in two hours.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
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
import { noGrad, type Tensor, tidy } from '../../src/torch/index.js';

/** The width of text states, image states and both embeddings. */
const WIDTH = 128;

/** A full caption has 24 tokens. The real models' 77 would make every step slower. */
export const MAX_TOKENS = 32;

const vaeConfig = {
  _class_name: 'AutoencoderKL',
  sample_size: 64,
  block_out_channels: [16, 24, 48, 64],
  down_block_types: Array(4).fill('DownEncoderBlock2D'),
  up_block_types: Array(4).fill('UpDecoderBlock2D'),
  latent_channels: 4,
  layers_per_block: 1,
  // Groups have several channels: normalising single channels would lose the brightness of a plain background.
  norm_num_groups: 4,
};

const unetConfig = {
  _class_name: 'UNet2DConditionModel',
  sample_size: 8,
  block_out_channels: [80, 128],
  down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
  up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
  layers_per_block: 1,
  // The number of heads, despite upstream's name.
  attention_head_dim: 4,
  cross_attention_dim: WIDTH,
  norm_num_groups: 16,
};

/** The same network by SDXL's classes: see demo/models-xl.ts. */
export const unetConfigXL = {
  ...unetConfig,
  addition_embed_type: 'text_time',
  addition_time_embed_dim: 32,
  attention_head_dim: [4, 4],
  // Two text encoders' states; the second one's embedding and six sizes.
  cross_attention_dim: 2 * WIDTH,
  projection_class_embeddings_input_dim: WIDTH + 6 * 32,
  transformer_layers_per_block: [1, 1],
  use_linear_projection: true,
};

/** @param layers the UNet was trained with the states of 3 */
export const textConfig = (tokens: number, layers = 3) => ({
  model_type: 'clip_text_model',
  architectures: ['CLIPTextModel'],
  vocab_size: tokens,
  bos_token_id: tokens - 2,
  eos_token_id: tokens - 1,
  pad_token_id: tokens - 1,
  max_position_embeddings: MAX_TOKENS,
  hidden_size: WIDTH,
  intermediate_size: 3 * WIDTH,
  num_hidden_layers: layers,
  num_attention_heads: 4,
  hidden_act: 'quick_gelu',
  projection_dim: WIDTH,
});

const visionConfig = {
  model_type: 'clip_vision_model',
  architectures: ['CLIPVisionModelWithProjection'],
  image_size: 64,
  patch_size: 8,
  hidden_size: WIDTH,
  intermediate_size: 3 * WIDTH,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  hidden_act: 'quick_gelu',
  projection_dim: WIDTH,
};

/**
 * v-prediction, because epsilon prediction gives the noisiest steps, which decide an image's composition, almost no weight
 * (Salimans & Ho 2022, section 4).
 */
const schedulerConfig = {
  _class_name: 'DDIMScheduler',
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  prediction_type: 'v_prediction',
  clip_sample: false,
  set_alpha_to_one: false,
  steps_offset: 1,
};

const modelIndex = {
  _class_name: 'StableDiffusionPipeline',
  scheduler: ['diffusers', 'DDIMScheduler'],
  text_encoder: ['transformers', 'CLIPTextModel'],
  tokenizer: ['transformers', 'CLIPTokenizer'],
  unet: ['diffusers', 'UNet2DConditionModel'],
  vae: ['diffusers', 'AutoencoderKL'],
  feature_extractor: [null, null],
  safety_checker: [null, null],
};

export const modelIndexXL = {
  ...modelIndex,
  _class_name: 'StableDiffusionXLPipeline',
  force_zeros_for_empty_prompt: false,
  text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
  tokenizer_2: ['transformers', 'CLIPTokenizer'],
};

const source = 'demo/pretrain/models.ts';
export const newVAE = (): AutoencoderKL => new AutoencoderKL(parseVAEConfig(vaeConfig, source));
export const newUNet = (): UNet2DConditionModel =>
  new UNet2DConditionModel(parseUNetConfig(unetConfig, source));
export const newTextEncoder = (tokens: number): CLIPTextModel =>
  new CLIPTextModel(parseCLIPTextConfig(textConfig(tokens), source));
export const newImageEncoder = (): CLIPVisionModelWithProjection =>
  new CLIPVisionModelWithProjection(parseCLIPVisionConfig(visionConfig, source));

type Weights = ReadonlyMap<string, Tensor>;

/** @param scalingFactor the factor that gives latents a standard deviation of 1 */
export function writeVAE(root: string, weights: Weights, scalingFactor: number): void {
  const config = { ...vaeConfig, scaling_factor: scalingFactor };
  writeModel(join(root, 'vae'), config, 'diffusion_pytorch_model.safetensors', weights);
}

export function writeUNet(root: string, weights: Weights): void {
  writeModel(join(root, 'unet'), unetConfig, 'diffusion_pytorch_model.safetensors', weights);
}

/** Writes the scheduler's config and model_index.json. */
export function writePipeline(root: string): void {
  writeJson(join(root, 'scheduler'), 'scheduler_config.json', schedulerConfig);
  writeJson(root, 'model_index.json', modelIndex);
}

export function writeTextEncoder(root: string, weights: Weights, tokens: number): void {
  writeModel(join(root, 'text_encoder'), textConfig(tokens), 'model.safetensors', weights);
}

export function writeImageEncoder(root: string, weights: Weights): void {
  writeModel(join(root, 'image_encoder'), visionConfig, 'model.safetensors', weights);
}

/** Writes weights in float16, which keeps the repository small without a visible loss. */
function writeModel(folder: string, config: object, file: string, weights: Weights): void {
  writeJson(folder, 'config.json', config);
  using _ = noGrad();
  tidy(() => {
    const halves = new Map(Array.from(weights, ([name, tensor]) => [name, tensor.detach().to('float16')]));
    writeSafetensors(join(folder, file), halves, { format: 'pt' });
  });
}

function writeJson(folder: string, file: string, content: object): void {
  makeFolder(folder);
  writeFileSync(join(folder, file), `${JSON.stringify(content, null, 2)}\n`);
}
