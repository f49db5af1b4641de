/**
 * @file Models from what people have: folders as diffusers and transformers publish them, or one file of Stable
 * Diffusion 1.x. Strict: every published tensor is used once, or said not to be.
 */

import { CLIPTextModel, parseCLIPTextConfig } from '../models/clip/clip-text-model.js';
import {
  type CLIPVisionConfig,
  CLIPVisionModelWithProjection,
  parseCLIPVisionConfig,
} from '../models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { AutoencoderKL, type AutoencoderKLConfig, parseVAEConfig } from '../models/vae/autoencoder-kl.js';
import type { Module } from '../nn/module.js';
import { type Device, type DType, tidy } from '../torch/index.js';
import { type FoundConfig, readCLIPConfig, readDiffusersConfig } from './config-file.js';
import { ldmUNetKeys, ldmVAEKeys } from './ldm-keys.js';
import {
  type Adapt,
  adaptCLIPText,
  adaptCLIPVision,
  adaptVAE,
  asPublished,
  summarizeKeys,
} from './published-keys.js';
import type { SingleFileCheckpoint, SingleFilePart } from './single-file.js';
import { diffusersWeights, readWeights, transformersWeights, type WeightNames } from './weight-files.js';

export interface LoadOptions {
  /** Default: as in the file. Then, and on the CPU, the weights stay mapped from the file: they take no memory twice. */
  dtype?: DType;
  /** Default: 'cpu'. */
  device?: Device;
  /** Told which file was read, and what in it is not used. */
  onMessage?: ((message: string) => void) | undefined;
}

/** A model's folder, or an open file that holds it among others. */
type Source = string | SingleFileCheckpoint;

/** @throws ConfigError, CheckpointError where the source is not a UNet2DConditionModel's, or is incomplete. */
export function loadUNet(source: Source, options: LoadOptions = {}): UNet2DConditionModel {
  const build = ({ json, where }: FoundConfig) => new UNet2DConditionModel(parseUNetConfig(json, where));
  if (typeof source !== 'string') {
    const model = build(configIn(source, 'unet'));
    return loadPart(
      model,
      source,
      'unet',
      ldmUNetKeys(model.namedParameters().keys(), model.config),
      options,
    );
  }
  const model = build(readDiffusersConfig(source, 'UNet2DConditionModel'));
  return loadFolder(model, source, diffusersWeights, asPublished, options);
}

/** What a folder's AutoencoderKL is like, without its weights. @throws as loadVAE */
export function readVAEConfig(folder: string): AutoencoderKLConfig {
  const { json, where } = readDiffusersConfig(folder, 'AutoencoderKL');
  return parseVAEConfig(json, where);
}

/** @throws ConfigError, CheckpointError where the source is not an AutoencoderKL's, or is incomplete. */
export function loadVAE(source: Source, options: LoadOptions = {}): AutoencoderKL {
  if (typeof source !== 'string') {
    const { json, where } = configIn(source, 'vae');
    const model = new AutoencoderKL(parseVAEConfig(json, where));
    return loadPart(model, source, 'vae', ldmVAEKeys(model.namedParameters().keys(), model.config), options);
  }
  const model = new AutoencoderKL(readVAEConfig(source));
  return loadFolder(model, source, diffusersWeights, adaptVAE, options);
}

/**
 * CLIP's text model; the folder may hold the whole of CLIP.
 * @throws ConfigError, CheckpointError where the source is not a CLIPTextModel's, or is incomplete.
 */
export function loadTextEncoder(source: Source, options: LoadOptions = {}): CLIPTextModel {
  const build = ({ json, where }: FoundConfig) => new CLIPTextModel(parseCLIPTextConfig(json, where));
  if (typeof source !== 'string')
    // Its names are transformers'.
    return loadPart(build(configIn(source, 'textEncoder')), source, 'textEncoder', new Map(), options);
  const config = readCLIPConfig(source, 'text');
  return loadFolder(build(config), source, transformersWeights, adaptCLIPText(config), options);
}

/** What a folder's vision model is like, without its weights. @throws as loadImageEncoder */
export function readImageEncoderConfig(folder: string): CLIPVisionConfig {
  const { json, where } = readCLIPConfig(folder, 'vision');
  return parseCLIPVisionConfig(json, where);
}

/**
 * CLIP's vision model with its projection; the folder may hold the whole of CLIP.
 * @throws ConfigError, CheckpointError where the folder is not a CLIPVisionModelWithProjection's, or is incomplete.
 */
export function loadImageEncoder(folder: string, options: LoadOptions = {}): CLIPVisionModelWithProjection {
  const config = readCLIPConfig(folder, 'vision');
  const model = new CLIPVisionModelWithProjection(parseCLIPVisionConfig(config.json, config.where));
  return loadFolder(model, folder, transformersWeights, adaptCLIPVision(config), options);
}

type AnyModel = Module<never[], unknown>;

function loadFolder<M extends AnyModel>(
  model: M,
  folder: string,
  names: WeightNames,
  adapt: Adapt,
  options: LoadOptions,
): M {
  // The scope ends before loading: it lets go of what is not used, and the rest is the model's.
  const { file, passedOver, ...adapted } = tidy(() => {
    const { tensors, ...found } = readWeights(folder, names);
    return { ...found, ...adapt(tensors) };
  });
  const notes = passedOver.length === 0 ? [] : [`not read: ${passedOver.join(', ')}`];
  return fill(model, adapted, file, notes, options);
}

function configIn({ configs, path }: SingleFileCheckpoint, part: SingleFilePart): FoundConfig {
  return { json: configs[part], where: `the ${part} of ${path}` };
}

/** @param ldmKeys the file's name for each of the model's parameters that has another there */
function loadPart<M extends AnyModel>(
  model: M,
  file: SingleFileCheckpoint,
  part: SingleFilePart,
  ldmKeys: ReadonlyMap<string, string>,
  options: LoadOptions,
): M {
  const names = new Map(Array.from(ldmKeys, ([key, ldmKey]) => [ldmKey, key]));
  const adapt = { unet: asPublished, vae: adaptVAE, textEncoder: adaptCLIPText({ isWhole: false }) }[part];
  const found = file.take(part);
  const adapted = tidy(() =>
    adapt(new Map(Array.from(found, ([ldmKey, tensor]) => [names.get(ldmKey) ?? ldmKey, tensor]))),
  );
  const kept = new Set(adapted.tensors.values());
  for (const tensor of found.values()) if (!kept.has(tensor)) tensor.dispose();
  return fill(model, adapted, file.path, [], options);
}

function fill<M extends AnyModel>(
  model: M,
  { tensors, unused }: ReturnType<Adapt>,
  file: string,
  notes: readonly string[],
  { dtype, device, onMessage }: LoadOptions,
): M {
  model.loadStateDict(tensors, file);
  const dtypes = [...new Set(Array.from(tensors.values(), (tensor) => tensor.dtype))].join(' and ');
  const all = [...(unused.length === 0 ? [] : [`not used: ${summarizeKeys(unused)}`]), ...notes];
  onMessage?.(
    `${model.constructor.name}: ${tensors.size} tensors, ${dtypes}, from ${file}${all.map((note) => `; ${note}`).join('')}`,
  );
  model.to({ dtype, device });
  return device === undefined || device === 'cpu' ? model : model.toChannelsLast();
}
