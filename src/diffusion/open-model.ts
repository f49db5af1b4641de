/** @file Opens a diffusion model of any family. A new family is one file in this folder, and is added here. */
import type { DiffusionModel } from './model.js';
import { openModelParts } from './model-parts.js';
import { stableDiffusion } from './stable-diffusion.js';
import { stableDiffusionXL } from './stable-diffusion-xl.js';

/**
 * Opens a model and detects its family.
 * @param nameOrPath see `openModelParts`
 * @throws ConfigError, CheckpointError where it is not a diffusion model, or of a family that is not supported
 */
export function openDiffusionModel(nameOrPath: string): DiffusionModel {
  const parts = openModelParts(nameOrPath);
  return parts.isXL() ? stableDiffusionXL(parts) : stableDiffusion(parts);
}
