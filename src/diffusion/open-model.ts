/** @file Opens a diffusion model of any family. A new family is added here, and is one file beside this one. */
import { assertPartsFit } from './check-parts.js';
import type { DiffusionModel } from './model.js';
import { openModelParts } from './model-parts.js';
import { stableDiffusion } from './stable-diffusion.js';
import { stableDiffusionXL } from './stable-diffusion-xl.js';

/**
 * @param nameOrPath see `openModelParts`
 * @throws ConfigError, CheckpointError where it is none, of a family that is not supported, or its parts do not go together
 */
export function openDiffusionModel(nameOrPath: string): DiffusionModel {
  const parts = openModelParts(nameOrPath);
  assertPartsFit(parts);
  return parts.isXL() ? stableDiffusionXL(parts) : stableDiffusion(parts);
}
