/** @file The models of a pipeline, from the user's folders; what does not go together is found before the first picture. */
import type { z } from 'zod';
import { adapterFileOf } from '../adapters/adapter-path.js';
import { assertFeaturesFit, type OpenedAdapter, openAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import { openStableDiffusion } from '../diffusion/stable-diffusion.js';
import { resolveModelPath } from '../hub/cache.js';
import { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import type { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import type { AutoencoderKL } from '../models/vae/autoencoder-kl.js';
import type { pipelineOptionsSchema } from '../options/generate-options.js';
import type { SchedulerFile } from '../schedulers/config.js';
import type { Device, DType } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { type LoadOptions, loadImageEncoder } from '../weights/load.js';
import type { Encoder } from './image-prompt.js';

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
  const stableDiffusion = openStableDiffusion(model);
  const scheduler = stableDiffusion.schedulerFile();
  const tokenizer = stableDiffusion.tokenizer();
  const unet = stableDiffusion.loadUNet(target);
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
  const vae = stableDiffusion.loadVAE(target);
  const latentPixels = 2 ** (vae.config.blockOutChannels.length - 1);
  return {
    unet,
    vae,
    textEncoder: stableDiffusion.loadTextEncoder(target),
    tokenizer,
    scheduler,
    encoder,
    adapter,
    ...target,
    size: stableDiffusion.sampleSize() * latentPixels,
    latentPixels,
  };
}

/** A CLIP image encoder in the transformers layout, and its preprocessing. */
export function loadEncoder(nameOrPath: string, target: LoadOptions): Encoder {
  const folder = resolveModelPath(nameOrPath);
  const model = loadImageEncoder(folder, target);
  return { folder, model, processor: ClipImageProcessor.load(folder, model.config.imageSize) };
}
