/** @file The family of Stable Diffusion 1.x and 2.x: one text encoder, whose last hidden state the UNet reads. */
import { ConfigError } from '../base/errors.js';
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { noGrad } from '../torch/index.js';
import type { Backbone, DiffusionModel, TextEncoder } from './model.js';
import { type ModelParts, openModelParts } from './model-parts.js';
import { diffusionObjective } from './objective.js';

/**
 * Opens a model.
 * @param nameOrPath see `openModelParts`
 * @throws ConfigError, CheckpointError where it is none, or of a family that is not supported
 */
export function openDiffusionModel(nameOrPath: string): DiffusionModel {
  return stableDiffusion(openModelParts(nameOrPath));
}

function stableDiffusion(parts: ModelParts): DiffusionModel {
  const { blockOutChannels, latentChannels, scalingFactor } = parts.vaeConfig();
  const downsample = 2 ** (blockOutChannels.length - 1);
  return {
    family: 'Stable Diffusion',
    path: parts.path,
    latents: { channels: latentChannels, downsample, scale: scalingFactor },
    imageSize: parts.sampleSize() * downsample,
    tokenizer: parts.tokenizer,
    objective: (device) => diffusionObjective(new DDPMScheduler(parts.noiseConfig(), device)),
    schedulerFile: parts.schedulerFile,
    pathOf: parts.pathOf,
    loadBackbone: (options) => unetBackbone(textToImage(parts.loadUNet(options), parts.path)),
    loadTextEncoder: (options) => textEncoder(parts.loadTextEncoder(options)),
    loadVAE: parts.loadVAE,
  };
}

function textToImage(unet: UNet2DConditionModel, path: string): UNet2DConditionModel {
  const { textTime, inChannels, outChannels } = unet.config;
  if (textTime !== null)
    throw new ConfigError(`${path} is SDXL, which is not supported yet; take a Stable Diffusion 1.x or 2.x`);
  if (inChannels !== outChannels)
    throw new ConfigError(
      `The UNet of ${path} takes ${inChannels} channels, as for inpainting; take a text-to-image model, whose UNet takes ${outChannels}`,
    );
  return unet;
}

/** Wraps a UNet that is conditioned by text alone. */
export function unetBackbone(unet: UNet2DConditionModel): Backbone {
  return {
    predict: (noisy, timesteps, { text }, additions) =>
      unet.call(noisy, timesteps, text, undefined, additions),
    sites: unet.sites(),
    parameters: () => unet.parameters(),
    [Symbol.dispose]: () => {
      for (const parameter of unet.parameters()) parameter.dispose();
    },
  };
}

function textEncoder(model: CLIPTextModel): TextEncoder {
  return {
    condition: (inputIds) => {
      using _ = noGrad();
      return { text: model.call(inputIds).lastHiddenState };
    },
    parameters: () => model.parameters(),
    [Symbol.dispose]: () => {
      for (const parameter of model.parameters()) parameter.dispose();
    },
  };
}
