/** @file The models of a pipeline, from the user's folders; what does not go together is found before the first picture. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { adapterFile } from './checkpoint.js';
import { ClipImageProcessor } from './data/clip-image-processor.js';
import { ClipTokenizer } from './data/clip-tokenizer.js';
import { ConfigError } from './errors.js';
import type { pipelineOptionsSchema } from './generate-config.js';
import type { Encoder } from './image-prompt.js';
import { assertFeaturesFit, type OpenedAdapter, openAdapter } from './ip-adapter/open-adapter.js';
import type { AutoencoderKL } from './models/autoencoder-kl.js';
import type { CLIPTextModel } from './models/clip-text-model.js';
import { type LoadOptions, loadImageEncoder, loadTextEncoder, loadUNet, loadVAE } from './models/load.js';
import type { UNet2DConditionModel } from './models/unet-2d-condition.js';
import { readSchedulerConfig, type SchedulerFile } from './schedulers/config.js';
import { resolveTarget } from './target.js';
import type { Device, DType } from './torch/index.js';

export interface PipelineModels {
  unet: UNet2DConditionModel;
  vae: AutoencoderKL;
  textEncoder: CLIPTextModel;
  tokenizer: ClipTokenizer;
  scheduler: SchedulerFile;
  encoder: Encoder | undefined;
  adapter: OpenedAdapter | undefined;
  device: Device;
  dtype: DType;
  /** Side of the pictures that the model was trained on, in pixels. */
  size: number;
  /** Pixels that one latent stands for, in each direction. */
  latentPixels: number;
}

/** @throws ConfigError, CheckpointError where a file is missing or damaged, or parts do not go together */
export function loadPipelineModels(options: z.output<typeof pipelineOptionsSchema>): PipelineModels {
  const { model, imageEncoder } = options;
  const target = resolveTarget(options);
  // Cheap faults come first: the small files are read before the weights.
  const scheduler = readSchedulerConfig(join(model, 'scheduler'));
  const tokenizer = ClipTokenizer.load(join(model, 'tokenizer'));
  const unet = loadUNet(join(model, 'unet'), target);
  if (unet.config.textTime !== null)
    throw new ConfigError(
      `Expected Stable Diffusion 1.x or 2.x in ${model} but it is SDXL, which is not supported yet`,
    );
  if (unet.config.inChannels !== unet.config.outChannels)
    throw new ConfigError(
      `Expected a text-to-image model in ${model} but its UNet takes ${unet.config.inChannels} channels, as for inpainting`,
    );
  const adapter =
    options.adapter === undefined ? undefined : openAdapter(adapterFileOf(options.adapter), unet);
  adapter?.module.to(target);
  const encoder = imageEncoder === undefined ? undefined : loadEncoder(imageEncoder, target);
  if (adapter && encoder) {
    const { hiddenSize, projectionDim } = encoder.model.config;
    const isEmbedding = adapter.module.image_proj.takes === 'embedding';
    assertFeaturesFit(adapter, isEmbedding ? projectionDim : hiddenSize, encoder.folder);
  }
  const vae = loadVAE(join(model, 'vae'), target);
  const latentPixels = 2 ** (vae.config.blockOutChannels.length - 1);
  return {
    unet,
    vae,
    textEncoder: loadTextEncoder(join(model, 'text_encoder'), target),
    tokenizer,
    scheduler,
    encoder,
    adapter,
    ...target,
    size: sampleSize(join(model, 'unet', 'config.json')) * latentPixels,
    latentPixels,
  };
}

/** A CLIP image encoder in the transformers layout, and its preprocessing. */
export function loadEncoder(folder: string, target: LoadOptions): Encoder {
  const model = loadImageEncoder(folder, target);
  return { folder, model, processor: ClipImageProcessor.load(folder, model.config.imageSize) };
}

/** A checkpoint's adapter, or the file itself. */
function adapterFileOf(path: string): string {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? join(path, adapterFile) : path;
}

/** Latents on a side in training. The UNet works at any size, so its class has no use for the number. */
function sampleSize(configFile: string): number {
  const { sample_size: size } = JSON.parse(readFileSync(configFile, 'utf8')) as { sample_size?: unknown };
  // Stable Diffusion 1.x's, and diffusers' default is none.
  return typeof size === 'number' ? size : 64;
}
