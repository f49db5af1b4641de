/** @file LoRAs of a model: their files by path or name, and the model's parts with the LoRAs merged. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { ldmUNetKeys } from '../weights/ldm-keys.js';
import { LoraMerger, type LoraSource } from '../weights/lora.js';
import { openNamed } from '../weights/near-folder.js';
import type { ModelParts } from './model-parts.js';

/** The names that diffusers and PEFT give to the file in a folder. */
const fileNames = [
  'pytorch_lora_weights.safetensors',
  'adapter_model.safetensors',
  'pytorch_lora_weights.bin',
  'adapter_model.bin',
];

/**
 * Opens LoRAs; each path may be a name on the Hub.
 * @throws CheckpointError where there is no such file, or it is no LoRA
 */
export function openLoras(loras: readonly LoraSource[]): LoraMerger {
  const sources = loras.map(({ path, scale }) => ({
    path: openNamed('--lora (loras)', path, holdsLora, () => loraFileOf(path)),
    scale,
  }));
  return new LoraMerger(sources);
}

/** Returns the parts of a model into which LoRAs are merged when they are loaded. */
export function withLoras(parts: ModelParts, loras: LoraMerger): ModelParts {
  return {
    ...parts,
    loadUNet: (options) => {
      const unet = parts.loadUNet(options);
      // kohya's sd-scripts name the layers of SDXL as the original code does.
      const ldmKeys = ldmUNetKeys(unet.namedParameters().keys(), unet.config);
      return loras.merge('unet', unet, new Map(Array.from(ldmKeys, ([key, name]) => [key, [name]])));
    },
    loadTextEncoder: (options) => mergeText('text_encoder', parts.loadTextEncoder(options)),
    loadSecondTextEncoder: (options) => mergeText('text_encoder_2', parts.loadSecondTextEncoder(options)),
  };

  function mergeText<M extends Parameters<LoraMerger['merge']>[1]>(
    part: 'text_encoder' | 'text_encoder_2',
    model: M,
  ): M {
    // transformers 5 leaves the first part of the names out.
    const names = Array.from(model.namedParameters().keys(), (key): [string, string[]] => [
      key,
      key.startsWith('text_model.') ? [key.slice('text_model.'.length)] : [],
    ]);
    return loras.merge(part, model, new Map(names));
  }
}

function loraFileOf(nameOrPath: string): string {
  const path = resolveModelPath(nameOrPath);
  if (!statSync(path).isDirectory()) return path;
  const files = readdirSync(path).filter((name) => /\.(safetensors|bin)$/.test(name));
  const file = fileNames.find((name) => files.includes(name)) ?? (files.length === 1 ? files[0] : undefined);
  if (file !== undefined) return join(path, file);
  const remedy =
    files.length === 0 ? 'give a file' : `name the file: it holds ${files.slice(0, 5).join(', ')}`;
  throw new CheckpointError(`Expected a LoRA in the folder ${path} but it has no ${fileNames[0]}; ${remedy}`);
}

function holdsLora(folder: string): boolean {
  return fileNames.some((name) => existsSync(join(folder, name)));
}
