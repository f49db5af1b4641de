/** @file The parts that all families with a UNet share. */
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import type { Tensor } from '../torch/index.js';
import type { Conditioning } from './conditioning.js';
import type { Backbone, DiffusionModel, PartOptions } from './model.js';
import type { ModelParts } from './model-parts.js';
import { diffusionObjective } from './objective.js';

type CommonParts = Pick<
  DiffusionModel,
  'path' | 'latents' | 'imageSize' | 'objective' | 'schedulerFile' | 'backbonePath' | 'vaePath'
>;

export function openCommonParts(parts: ModelParts): CommonParts {
  const { blockOutChannels, latentChannels, scalingFactor } = parts.vaeConfig();
  const downsample = 2 ** (blockOutChannels.length - 1);
  return {
    path: parts.path,
    latents: { channels: latentChannels, downsample, scale: scalingFactor },
    imageSize: parts.sampleSize() * downsample,
    objective: (device) => diffusionObjective(new DDPMScheduler(parts.noiseConfig(), device)),
    schedulerFile: parts.schedulerFile,
    backbonePath: parts.pathOf('unet'),
    vaePath: parts.pathOf('vae'),
  };
}

/** Loads the UNet. */
export function loadUNetBackbone(parts: ModelParts, options: PartOptions): Backbone {
  return unetBackbone(parts.loadUNet(options));
}

export function unetBackbone(unet: UNet2DConditionModel): Backbone {
  return {
    predict: (noisy, timesteps, conditioning, additions) =>
      unet.call(noisy, timesteps, conditioning.text, addedCondition(conditioning), additions),
    sites: unet.sites(),
    parameters: () => unet.parameters(),
    [Symbol.dispose]: () => unet[Symbol.dispose](),
  };
}

function addedCondition({
  pooled,
  timeIds,
}: Conditioning): { textEmbeds: Tensor; timeIds: Tensor } | undefined {
  return pooled === undefined || timeIds === undefined ? undefined : { textEmbeds: pooled, timeIds };
}
