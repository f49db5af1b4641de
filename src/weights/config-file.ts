/** @file A model folder's config.json, and what it says the folder holds. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, ConfigError, shown } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';

export type Json = Record<string, unknown>;

/** A config, and where it is from. */
export interface FoundConfig {
  json: Json;
  /** For errors. */
  where: string;
}

/**
 * The config of a diffusers model.
 * @throws CheckpointError where there is no such folder or file, ConfigError where it is of another class
 */
export function readDiffusersConfig(folder: string, className: string): FoundConfig {
  const found = readConfig(folder);
  if (found.json._class_name !== className) refuse(found, '_class_name', [className]);
  return found;
}

/**
 * The config of a CLIP model's vision or text part: of a folder that holds just that, or a whole CLIP model. As for
 * transformers, a whole model's `vision_config` or `text_config` counts; except that its projection has the size
 * that the model's own `projection_dim` says, which some published parts contradict.
 * @returns `isWhole`: the weights of the other part, too, are in the folder
 * @throws as readDiffusersConfig
 */
export function readCLIPConfig(folder: string, part: 'vision' | 'text'): FoundConfig & { isWhole: boolean } {
  const found = readConfig(folder);
  const type = `clip_${part}_model`;
  if (found.json.model_type === type) return { ...found, isWhole: false };
  if (found.json.model_type !== 'clip') refuse(found, 'model_type', [type, 'clip']);
  const key = `${part}_config`;
  const own = found.json[key];
  const where = `${key} of ${found.where}`;
  if (!isObject(own)) throw new ConfigError(`Expected an object for ${where} but received ${shown(own)}`);
  // transformers' default.
  const { projection_dim = 512 } = found.json;
  return { json: { ...own, projection_dim }, where, isWhole: true };
}

function readConfig(folder: string): FoundConfig {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new CheckpointError(
      `Expected a model folder at ${folder} but ${existsSync(folder) ? 'it is a file' : 'there is none'}`,
    );
  const where = join(folder, 'config.json');
  if (!existsSync(where))
    throw new CheckpointError(
      `Expected ${where} but there is none; a model folder has config.json beside its weights`,
    );
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(regularFile(where), 'utf8'));
  } catch (cause) {
    throw new ConfigError(`Expected JSON in ${where} but it cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (!isObject(json))
    throw new ConfigError(`Expected a JSON object in ${where} but received ${shown(json)}`);
  return { json, where };
}

function refuse({ json, where }: FoundConfig, key: string, expected: string[]): never {
  throw new ConfigError(
    `Expected ${key} = ${expected.map(shown).join(' or ')} in ${where} but received ${shown(json[key])}`,
  );
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
