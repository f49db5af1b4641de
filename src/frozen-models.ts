/** @file The frozen models of a training run, from the user's folders, and what they make of a batch. */
import { ClipImageProcessor } from './data/clip-image-processor.js';
import type { ClipTokenizer } from './data/clip-tokenizer.js';
import type { Batch } from './data/data-loader.js';
import { resolveModelPath } from './hub-cache.js';
import { type AutoencoderKL, sampleLatents } from './models/autoencoder-kl.js';
import type { CLIPTextModel } from './models/clip-text-model.js';
import type { CLIPVisionModelWithProjection } from './models/clip-vision-model.js';
import { type LoadOptions, loadImageEncoder } from './models/load.js';
import type { UNet2DConditionModel } from './models/unet-2d-condition.js';
import { DDPMScheduler } from './schedulers/ddpm.js';
import { openStableDiffusion } from './stable-diffusion.js';
import { type Device, type DType, type Generator, noGrad, type Tensor, tensor, tidy } from './torch/index.js';

export interface FrozenModels {
  unet: UNet2DConditionModel;
  vae: AutoencoderKL;
  textEncoder: CLIPTextModel;
  imageEncoder: CLIPVisionModelWithProjection;
  tokenizer: ClipTokenizer;
  imageProcessor: ClipImageProcessor;
  scheduler: DDPMScheduler;
}

/**
 * Loads a Stable Diffusion and a CLIP image encoder. Cheap faults come first: the small files are read before the
 * weights.
 * @param modelNameOrPath see `openStableDiffusion`
 * @param imageEncoderNameOrPath a folder in the layout of transformers, or where the Hub's cache has one
 */
export function loadFrozenModels(
  modelNameOrPath: string,
  imageEncoderNameOrPath: string,
  options: LoadOptions & { dtype: DType; device: Device },
): FrozenModels {
  const model = openStableDiffusion(modelNameOrPath);
  const imageEncoderFolder = resolveModelPath(imageEncoderNameOrPath);
  const scheduler = new DDPMScheduler(model.noiseConfig(), options.device);
  const tokenizer = model.tokenizer();
  const imageEncoder = loadImageEncoder(imageEncoderFolder, options);
  return {
    scheduler,
    tokenizer,
    imageEncoder,
    imageProcessor: ClipImageProcessor.load(imageEncoderFolder, imageEncoder.config.imageSize),
    textEncoder: model.loadTextEncoder(options),
    vae: model.loadVAE(options),
    unet: model.loadUNet(options),
  };
}

/** A batch as the adapter and the UNet take it. */
export interface EncodedBatch {
  /** Sampled from the VAE's distribution and scaled, float32 [b, 4, resolution / 8, resolution / 8]. */
  latents: Tensor;
  /** The text encoder's last hidden state [b, 77, crossAttentionDim]. */
  textStates: Tensor;
  /** The image encoder's last hidden state but one, float32 [b, n, hiddenSize]. */
  imageFeatures: Tensor;
}

/** @param generator draws the VAE's sample */
export function encodeBatch(
  models: FrozenModels,
  batch: Batch,
  generator: Generator,
  target: { dtype: DType; device: Device },
): EncodedBatch {
  using _ = noGrad();
  const { vae, textEncoder, imageEncoder } = models;
  return tidy(() => {
    const pixels = tensor(batch.pixelValues.data, batch.pixelValues.shape).to(target);
    const clipPixels = tensor(batch.clipPixelValues.data, batch.clipPixelValues.shape).to(target);
    const inputIds = tensor(batch.inputIds.data, batch.inputIds.shape).to(target.device);
    const latents = sampleLatents(vae.encode(pixels), generator).to('float32').mul(vae.config.scalingFactor);
    return {
      latents,
      textStates: textEncoder.call(inputIds).lastHiddenState,
      imageFeatures: imageEncoder.hiddenStates(clipPixels, -2).to('float32'),
    };
  });
}
