/** @file A diffusion model as people have it, a folder in the layout of diffusers or one file, part by part. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CheckpointError, ConfigError, shown } from '../base/errors.js';
import { readJsonObject } from '../base/json.js';
import { cachedSnapshot, resolveModelPath } from '../hub/cache.js';
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import type { CLIPTextModelWithProjection } from '../models/clip/clip-text-model-with-projection.js';
import { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import type { UNet2DConditionConfig } from '../models/unet/unet-config.js';
import type { AutoencoderKL, AutoencoderKLConfig } from '../models/vae/autoencoder-kl.js';
import {
  type NoiseConfig,
  parseSchedulerConfig,
  readNoiseConfig,
  readSchedulerConfig,
  type SchedulerFile,
} from '../schedulers/config.js';
import { readDiffusersConfig } from '../weights/config-file.js';
import {
  type LoadOptions,
  loadTextEncoder,
  loadTextEncoderWithProjection,
  loadUNet,
  loadVAE,
  readTextEncoderSizes,
  readUNetConfig,
  readVAEConfig,
  type TextEncoderSizes,
} from '../weights/load.js';
import { summarizeKeys } from '../weights/published-keys.js';
import { sd15 } from '../weights/sd15.js';
import { openSingleFile, type SingleFileCheckpoint } from '../weights/single-file.js';
import { schedulerFor, sd15Scheduler, sdxlScheduler } from './published-schedulers.js';

/**
 * Each method reads what it gives, so that the cheap parts can be read, and found faulty, before the weights.
 * All throw ConfigError or CheckpointError where a part is missing, damaged, or not supported.
 */
export interface ModelParts {
  /** The folder or file. */
  path: string;
  /** What training needs of the scheduler's config. */
  noiseConfig(): NoiseConfig;
  /** All of it, for sampling. */
  schedulerFile(): SchedulerFile;
  tokenizer(part?: 'tokenizer' | 'tokenizer_2'): ClipTokenizer;
  /** Whether it is SDXL. */
  isXL(): boolean;
  /** Whether an absent negative prompt is states of zeros (`force_zeros_for_empty_prompt` of model_index.json). */
  forcesZeros(): boolean;
  /** Side of the latents that it was trained on. */
  sampleSize(): number;
  unetConfig(): UNet2DConditionConfig;
  vaeConfig(): AutoencoderKLConfig;
  textEncoderSizes(part: 'text_encoder' | 'text_encoder_2'): TextEncoderSizes;
  /** Where the weights of a part are: its folder, or the file that holds all parts. */
  pathOf(part: 'unet' | 'vae' | 'text_encoder' | 'text_encoder_2'): string;
  /** Each of the models is loaded once at most. */
  loadUNet(options: LoadOptions): UNet2DConditionModel;
  loadVAE(options: LoadOptions): AutoencoderKL;
  loadTextEncoder(options: LoadOptions): CLIPTextModel;
  /** SDXL's second text encoder. */
  loadSecondTextEncoder(options: LoadOptions): CLIPTextModelWithProjection;
}

/**
 * @param nameOrPath a folder in the layout of diffusers, a file of Stable Diffusion 1.x or XL (`.safetensors`, `.ckpt`), or the
 * name of a model in the Hub's cache, with or without a file in it
 * @throws CheckpointError where there is no such thing
 */
export function openModelParts(nameOrPath: string): ModelParts {
  const path = resolveModelPath(nameOrPath);
  return statSync(path).isDirectory() ? inFolder(path) : inFile(path);
}

function inFolder(path: string): ModelParts {
  const part = (name: string) => join(path, name);
  return {
    path,
    noiseConfig: () => readNoiseConfig(part('scheduler')),
    schedulerFile: () => readSchedulerConfig(part('scheduler')),
    tokenizer: (name = 'tokenizer') => ClipTokenizer.load(part(name)),
    isXL: () => readUNetConfig(part('unet')).textTime !== null,
    forcesZeros: () => forcesZerosIn(path),
    sampleSize: () => sampleSizeIn(part('unet')),
    unetConfig: () => readUNetConfig(part('unet')),
    vaeConfig: () => readVAEConfig(part('vae')),
    textEncoderSizes: (name) => readTextEncoderSizes(part(name)),
    pathOf: part,
    loadUNet: (options) => loadUNet(part('unet'), options),
    loadVAE: (options) => loadVAE(part('vae'), options),
    loadTextEncoder: (options) => loadTextEncoder(part('text_encoder'), options),
    loadSecondTextEncoder: (options) => withProjection(part('text_encoder_2'), options),
  };
}

/** diffusers' pipeline of SDXL has it so where the file does not say. */
function forcesZerosIn(path: string): boolean {
  const file = join(path, 'model_index.json');
  if (!existsSync(file)) return true;
  return readJsonObject(file, ConfigError).force_zeros_for_empty_prompt !== false;
}

function withProjection(folder: string, options: LoadOptions): CLIPTextModelWithProjection {
  const model = loadTextEncoderWithProjection(folder, options);
  if (model !== null) return model;
  throw new CheckpointError(
    `Expected a CLIPTextModelWithProjection in ${folder} but there is no text_projection.weight; SDXL needs the second text encoder with its projection`,
  );
}

/** Returns the side of the training latents. The UNet works at any size, so its class does not read this key. */
function sampleSizeIn(unetFolder: string): number {
  const { json, where } = readDiffusersConfig(unetFolder, 'UNet2DConditionModel');
  const size = json.sample_size ?? sd15.unet.sample_size;
  const [side, ...others] = Array.isArray(size) ? size : [size];
  if (Number.isInteger(side) && side > 0 && others.every((other) => other === side)) return side;
  throw new ConfigError(
    `Expected a whole number above 0, or a list of equal ones, for sample_size in ${where} but received ${shown(size)}; models of non-square images are not supported`,
  );
}

function inFile(path: string): ModelParts {
  let opened: SingleFileCheckpoint | undefined;
  // Once: the parts that were not loaded yet are kept.
  const open = (): SingleFileCheckpoint => {
    opened ??= openSingleFile(path);
    return opened;
  };
  let isAnnounced = false;
  const announced = ({ onMessage }: LoadOptions): SingleFileCheckpoint => {
    const { family, unused } = open();
    if (!isAnnounced)
      onMessage?.(
        `${family.name} in the LDM layout: ${path}${unused.length === 0 ? '' : `; not used: ${summarizeKeys(unused)}`}`,
      );
    isAnnounced = true;
    return open();
  };
  const scheduler = () => {
    const { family, prediction } = open();
    const config = schedulerFor(family.isXL ? sdxlScheduler : sd15Scheduler, prediction);
    return parseSchedulerConfig(JSON.stringify(config), `${family.name} (${path})`);
  };
  return {
    path,
    noiseConfig: () => scheduler().config,
    schedulerFile: scheduler,
    tokenizer: (part) => tokenizerFor(path, part),
    isXL: () => open().family.isXL,
    forcesZeros: () => open().family.isXL,
    sampleSize: () => open().configs.unet?.sample_size as number,
    unetConfig: () => readUNetConfig(open()),
    vaeConfig: () => readVAEConfig(open()),
    textEncoderSizes: (part) => readTextEncoderSizes(open(), singleFileParts[part]),
    pathOf: () => path,
    loadUNet: (options) => loadUNet(announced(options), options),
    loadVAE: (options) => loadVAE(announced(options), options),
    loadTextEncoder: (options) => loadTextEncoder(announced(options), options),
    loadSecondTextEncoder: (options) =>
      loadTextEncoderWithProjection(announced(options), options) as CLIPTextModelWithProjection,
  };
}

const singleFileParts = { text_encoder: 'textEncoder', text_encoder_2: 'textEncoder2' } as const;

/** The model whose tokenizer the original code takes (CompVis/stable-diffusion `ldm/modules/encoders/modules.py`). */
export const tokenizerRepo = 'openai/clip-vit-large-patch14';

/**
 * Loads a tokenizer for a file of weights, which has no vocabulary: from a folder of the part's name beside it, its own folder
 * or the Hub's cache. SDXL's second tokenizer is the first one with another padding token.
 */
function tokenizerFor(file: string, part: 'tokenizer' | 'tokenizer_2' = 'tokenizer'): ClipTokenizer {
  const second = join(dirname(file), 'tokenizer_2');
  if (part === 'tokenizer_2' && hasTokenizer(second)) return ClipTokenizer.load(second);
  const first = tokenizerBeside(file) ?? cachedSnapshot(tokenizerRepo);
  if (first !== null && hasTokenizer(first))
    return ClipTokenizer.load(first, part === 'tokenizer_2' ? { pad: '!' } : {});
  // A file of another model, such as Flux, is refused for that reason, not for its tokenizer.
  openSingleFile(file)[Symbol.dispose]();
  throw new CheckpointError(
    `Expected a tokenizer for ${file} but there is none: a checkpoint file has no vocabulary. Put vocab.json and merges.txt ` +
      `of ${tokenizerRepo}, or of any Stable Diffusion 1.x or XL in the layout of diffusers, into ${join(dirname(file), 'tokenizer')}; or let the Hub's ` +
      `cache have them: hf download ${tokenizerRepo} vocab.json merges.txt`,
  );
}

/** The folder with a tokenizer for a file of weights, if it is beside it. */
export function tokenizerBeside(file: string): string | null {
  const beside = dirname(file);
  return [join(beside, 'tokenizer'), beside].find(hasTokenizer) ?? null;
}

function hasTokenizer(folder: string): boolean {
  return ['vocab.json', 'tokenizer.json'].some((name) => existsSync(join(folder, name)));
}
