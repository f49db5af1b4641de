/** @file Reads a model folder's config.json, and checks that the folder holds the expected class of model. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, ConfigError, shown } from '../base/errors.js';
import { isJsonObject, type JsonObject, readJsonObject } from '../base/json.js';

/** A config, and the file or key that it was read from. */
export interface ModelConfig {
  json: JsonObject;
  /** For error messages. */
  where: string;
}

/**
 * Reads the config of a diffusers model.
 * @throws CheckpointError where the folder or file is missing, ConfigError where it describes another class
 */
export function readDiffusersConfig(folder: string, className: string): ModelConfig {
  const config = readConfig(folder);
  if (config.json._class_name !== className) refuse(config, '_class_name', [className]);
  return config;
}

/** A model's config, and whether the folder's weights include another model's beside it. */
export interface PartConfig extends ModelConfig {
  /** config.json's `model_type`. */
  type: string;
  isWhole: boolean;
}

/**
 * Reads the config of CLIP's text model, from a folder that holds either this model alone or a whole CLIP model.
 * @throws as readDiffusersConfig
 */
export function readCLIPTextConfig(folder: string): PartConfig {
  return readPart(folder, 'text', ['clip_text_model', 'clip']);
}

/**
 * Reads the config of an image encoder, from a folder that holds either this model alone or a whole CLIP or SigLIP.
 * @param types values of `model_type` that are allowed
 * @throws as readDiffusersConfig
 */
export function readVisionConfig(folder: string, types: readonly string[]): PartConfig {
  return readPart(folder, 'vision', types);
}

/**
 * As in transformers, a whole model's `projection_dim` overrides the one in its `vision_config` or `text_config`, which
 * some published files contradict.
 */
function readPart(folder: string, part: 'vision' | 'text', types: readonly string[]): PartConfig {
  const config = readConfig(folder);
  const type = config.json.model_type;
  if (typeof type !== 'string' || !types.includes(type)) refuse(config, 'model_type', types);
  if (type !== 'clip' && type !== 'siglip') return { ...config, type, isWhole: false };
  const key = `${part}_config`;
  const partJson = config.json[key];
  const where = `${key} of ${config.where}`;
  if (!isJsonObject(partJson))
    throw new ConfigError(`Expected an object for ${where} but received ${shown(partJson)}`);
  // 512 is transformers' default.
  const { projection_dim = 512 } = config.json;
  const projection = type === 'clip' ? { projection_dim } : {};
  return { json: { ...partJson, ...projection }, where, type, isWhole: true };
}

function readConfig(folder: string): ModelConfig {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new CheckpointError(
      `Expected a model folder at ${folder} but ${existsSync(folder) ? 'it is a file' : 'it does not exist'}`,
    );
  const where = join(folder, 'config.json');
  if (!existsSync(where))
    throw new CheckpointError(
      `Expected ${where} but it does not exist; give a model folder, which has config.json beside its weights`,
    );
  return { json: readJsonObject(where, ConfigError), where };
}

function refuse({ json, where }: ModelConfig, key: string, expected: readonly string[]): never {
  throw new ConfigError(
    `Expected ${key} = ${expected.map(shown).join(' or ')} in ${where} but received ${shown(json[key])}`,
  );
}
