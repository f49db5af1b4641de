/** @file Opens a diffusion model of any family. A new family is one file in this folder, and is added here. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { LoraMerger } from '../weights/lora.js';
import { openNamed } from '../weights/near-folder.js';
import { assertPartsFit } from './check-parts.js';
import { withLoras } from './loras.js';
import type { DiffusionModel } from './model.js';
import { openModelParts } from './model-parts.js';
import { stableDiffusion } from './stable-diffusion.js';
import { stableDiffusionXL } from './stable-diffusion-xl.js';

/**
 * Opens a model and detects its family.
 * @param nameOrPath see `openModelParts`
 * @param loras are merged into the parts that are loaded
 * @throws ConfigError, CheckpointError where it is not a diffusion model, its family is not supported, or its parts do not fit
 * each other
 */
export function openDiffusionModel(nameOrPath: string, loras?: LoraMerger): DiffusionModel {
  const hasUNet = (folder: string) => existsSync(join(folder, 'unet', 'config.json'));
  return openNamed('--model (model)', nameOrPath, hasUNet, () => {
    const asPublished = openModelParts(nameOrPath);
    const parts = loras === undefined ? asPublished : withLoras(asPublished, loras);
    assertPartsFit(parts);
    return parts.isXL() ? stableDiffusionXL(parts) : stableDiffusion(parts);
  });
}
