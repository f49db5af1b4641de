/** @file A ControlNet beside a model: opened by name, checked against the model, called with the model's conditioning. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import type { UNet2DConditionConfig } from '../models/unet/unet-config.js';
import type { Residuals } from '../models/unet/unet-encoder.js';
import { noGrad, type Tensor, tidy } from '../torch/index.js';
import { openControlNetFiles } from '../weights/controlnet.js';
import { openNamed } from '../weights/near-folder.js';
import { addedConditionOf } from './added-condition.js';
import type { Conditioning } from './conditioning.js';
import type { PartOptions } from './model.js';

export interface ControlNet extends Disposable {
  /** Whether its residuals are means over all pixels; guess mode is then always on, as in diffusers. */
  readonly globalPool: boolean;
  /** Returns the conditioning image's embedding, which does not depend on the step. @param image [n, 3, H, W] in 0 … 1 */
  embed(image: Tensor): Tensor;
  /**
   * Returns what it adds to the backbone's states, before any scale.
   * @param noisy as for `Backbone.predict`
   * @param condition of `embed`, a row for all or one for each
   */
  residuals(noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, condition: Tensor): Residuals;
  parameters(): Tensor[];
}

/**
 * Opens a ControlNet without its weights.
 * @param nameOrPath a folder of diffusers, a file, or a name in the Hub's cache
 * @param base the UNet's config, and the pixels that a latent stands for
 * @returns what loads it
 * @throws ConfigError, CheckpointError where it is another model, or is for another UNet
 */
export function openControlNet(
  nameOrPath: string,
  base: { unet: UNet2DConditionConfig; downsample: number; latentChannels: number },
): (options: PartOptions) => ControlNet {
  const hasConfig = (folder: string): boolean => existsSync(join(folder, 'config.json'));
  return openNamed('--controlnet (controlnet)', nameOrPath, hasConfig, () => {
    const { config, load } = openControlNetFiles(resolveModelPath(nameOrPath), base.unet);
    const downsample = 2 ** (config.conditioningChannels.length - 1);
    if (downsample !== base.downsample)
      throw new ConfigError(
        `Expected a ControlNet that makes ${base.downsample} × ${base.downsample} pixels one latent but it makes ${downsample} × ${downsample}; take one that was trained for this model`,
      );
    if (config.inChannels !== base.latentChannels)
      throw new ConfigError(
        `Expected a ControlNet that takes ${base.latentChannels} channels but it takes ${config.inChannels}; take one that was trained for this model`,
      );
    return (options) => {
      const model = load(options);
      return {
        globalPool: config.globalPool,
        embed: (image) => {
          using _ = noGrad();
          return model.embed(image);
        },
        residuals: (noisy, timesteps, conditioning, condition) => {
          using _ = noGrad();
          return tidy(() =>
            model.call(noisy, timesteps, conditioning.text, condition, addedConditionOf(conditioning)),
          );
        },
        parameters: () => model.parameters(),
        [Symbol.dispose]: () => model[Symbol.dispose](),
      };
    };
  });
}
