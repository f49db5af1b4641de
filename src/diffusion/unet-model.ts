/** @file The parts that all families with a UNet share. */
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { cat } from '../torch/index.js';
import { addedConditionOf } from './added-condition.js';
import { takesMask } from './check-parts.js';
import { openControlNet } from './controlnet.js';
import type { Backbone, DiffusionModel, PartOptions } from './model.js';
import type { ModelParts } from './model-parts.js';
import { diffusionObjective } from './objective.js';

type CommonParts = Pick<
  DiffusionModel,
  | 'path'
  | 'latents'
  | 'imageSize'
  | 'takesMask'
  | 'objective'
  | 'schedulerFile'
  | 'backbonePath'
  | 'vaePath'
  | 'openControlNet'
>;

export function openCommonParts(parts: ModelParts): CommonParts {
  const { blockOutChannels, latentChannels, scalingFactor } = parts.vaeConfig();
  const downsample = 2 ** (blockOutChannels.length - 1);
  return {
    path: parts.path,
    latents: { channels: latentChannels, downsample, scale: scalingFactor },
    imageSize: parts.sampleSize() * downsample,
    takesMask: takesMask(parts.unetConfig(), latentChannels),
    objective: (device) => diffusionObjective(new DDPMScheduler(parts.noiseConfig(), device)),
    schedulerFile: parts.schedulerFile,
    backbonePath: parts.pathOf('unet'),
    vaePath: parts.pathOf('vae'),
    openControlNet: (nameOrPath) =>
      openControlNet(nameOrPath, { unet: parts.unetConfig(), downsample, latentChannels }),
  };
}

/** Loads the UNet. */
export function loadUNetBackbone(parts: ModelParts, options: PartOptions): Backbone {
  return unetBackbone(parts.loadUNet(options));
}

export function unetBackbone(unet: UNet2DConditionModel): Backbone {
  return {
    predict: (noisy, timesteps, conditioning, { additions, residuals } = {}) => {
      const { text, concat } = conditioning;
      const input = concat === undefined ? noisy : cat([noisy, concat], 1);
      return unet.call(input, timesteps, text, addedConditionOf(conditioning), additions, residuals);
    },
    sites: unet.sites(),
    parameters: () => unet.parameters(),
    [Symbol.dispose]: () => unet[Symbol.dispose](),
  };
}
