/** @file SDXL and CLIP ViT-H/14 in their published sizes and folder layout, with random float32 weights (17 GB on disk). */
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../src/base/make-folder.js';
import { CLIPTextModel, parseCLIPTextConfig } from '../../src/models/clip/clip-text-model.js';
import { CLIPTextModelWithProjection } from '../../src/models/clip/clip-text-model-with-projection.js';
import {
  CLIPVisionModelWithProjection,
  parseCLIPVisionConfig,
} from '../../src/models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../../src/models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../../src/models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../../src/models/vae/autoencoder-kl.js';
import { sd15 } from '../../src/weights/sd15.js';
import { vitH } from '../../test/published-image-encoder.js';
import { sdxl } from '../../test/published-unets.js';
import { type WritePart, writeRandom } from './write-part.js';

const scheduler = {
  _class_name: 'EulerDiscreteScheduler',
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  beta_start: 0.00085,
  num_train_timesteps: 1000,
  prediction_type: 'epsilon',
  steps_offset: 1,
  timestep_spacing: 'leading',
};
const text = { model_type: 'clip_text_model', ...sd15.textEncoder };
const bigG = {
  ...text,
  hidden_act: 'gelu',
  hidden_size: 1280,
  intermediate_size: 5120,
  num_attention_heads: 20,
  num_hidden_layers: 32,
  projection_dim: 1280,
};
const vae = { _class_name: 'AutoencoderKL', ...sd15.vae, sample_size: 1024, scaling_factor: 0.13025 };

/** Writes what is not there yet: `root/model` and `root/image_encoder`. */
export function writeFullSizeSDXL(root: string, write: WritePart = writeRandom): void {
  const at = (...names: string[]): string => join(root, ...names);
  const diffusers = 'diffusion_pytorch_model.safetensors';
  const unet = { ...sdxl, sample_size: 128 };
  write(at('model/unet'), diffusers, unet, () => new UNet2DConditionModel(parseUNetConfig(unet, 'bench')));
  write(at('model/vae'), diffusers, vae, () => new AutoencoderKL(parseVAEConfig(vae, 'bench')));
  const transformers = 'model.safetensors';
  write(
    at('model/text_encoder'),
    transformers,
    text,
    () => new CLIPTextModel(parseCLIPTextConfig(text, 'bench')),
  );
  write(
    at('model/text_encoder_2'),
    transformers,
    bigG,
    () => new CLIPTextModelWithProjection(parseCLIPTextConfig(bigG, 'bench'), 1280),
  );
  write(
    at('image_encoder'),
    transformers,
    vitH,
    () => new CLIPVisionModelWithProjection(parseCLIPVisionConfig(vitH, 'bench')),
  );
  makeFolder(at('model/scheduler'));
  writeFileSync(at('model/scheduler/scheduler_config.json'), JSON.stringify(scheduler));
  // Any tokenizer whose ids the text encoders have serves.
  for (const name of ['tokenizer', 'tokenizer_2'])
    cpSync(join(import.meta.dirname, '../../demo/models/tokenizer'), at('model', name), { recursive: true });
}
