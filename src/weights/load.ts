/**
 * @file Loads models from the folders that diffusers and transformers write, or from a single file of Stable Diffusion 1.x
 * or XL. Loading is strict: every tensor of a file is either used or reported as unused.
 */
import { type CLIPTextConfig, CLIPTextModel, parseCLIPTextConfig } from '../models/clip/clip-text-model.js';
import { CLIPTextModelWithProjection } from '../models/clip/clip-text-model-with-projection.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig, type UNet2DConditionConfig } from '../models/unet/unet-config.js';
import { AutoencoderKL, type AutoencoderKLConfig, parseVAEConfig } from '../models/vae/autoencoder-kl.js';
import type { Module } from '../nn/module.js';
import { type Device, type DType, tidy } from '../torch/index.js';
import { type ModelConfig, readCLIPTextConfig, readDiffusersConfig } from './config-file.js';
import { ldmUNetKeys, ldmVAEKeys } from './ldm-keys.js';
import { adaptOpenCLIPText } from './open-clip.js';
import {
  type Adapt,
  adaptCLIPText,
  adaptVAE,
  asPublished,
  summarizeKeys,
  textProjectionDim,
} from './published-keys.js';
import type { SingleFileCheckpoint } from './single-file.js';
import type { SingleFilePart } from './single-file-family.js';
import { diffusersWeights, readWeights, transformersWeights, type WeightNames } from './weight-files.js';

export interface LoadOptions {
  /** Default: the file's. On the CPU the weights then stay mapped from the file, which needs no memory for a copy. */
  dtype?: DType;
  /** Default: 'cpu'. */
  device?: Device;
  /** Receives a line for each model: its file, and which tensors of it are unused. */
  onMessage?: ((message: string) => void) | undefined;
}

/** A model's folder, or an open single file that contains the model. */
type Source = string | SingleFileCheckpoint;

/** Reads a UNet's config, without its weights. @throws as loadUNet */
export function readUNetConfig(source: Source): UNet2DConditionConfig {
  const { json, where } =
    typeof source === 'string'
      ? readDiffusersConfig(source, 'UNet2DConditionModel')
      : configIn(source, 'unet');
  return parseUNetConfig(json, where);
}

/** Loads a UNet. @throws ConfigError, CheckpointError where the source is another model, or incomplete */
export function loadUNet(source: Source, options: LoadOptions = {}): UNet2DConditionModel {
  const model = new UNet2DConditionModel(readUNetConfig(source));
  if (typeof source === 'string') return loadFolder(model, source, diffusersWeights, asPublished, options);
  return loadPart(model, source, 'unet', ldmUNetKeys(model.namedParameters().keys(), model.config), options);
}

/** Reads a VAE's config, without its weights. @throws as loadVAE */
export function readVAEConfig(source: Source): AutoencoderKLConfig {
  const { json, where } =
    typeof source === 'string' ? readDiffusersConfig(source, 'AutoencoderKL') : configIn(source, 'vae');
  return parseVAEConfig(json, where);
}

/** Loads a VAE. @throws ConfigError, CheckpointError where the source is another model, or incomplete */
export function loadVAE(source: Source, options: LoadOptions = {}): AutoencoderKL {
  const model = new AutoencoderKL(readVAEConfig(source));
  if (typeof source === 'string') return loadFolder(model, source, diffusersWeights, adaptVAE, options);
  return loadPart(model, source, 'vae', ldmVAEKeys(model.namedParameters().keys(), model.config), options);
}

/** The sizes of a text encoder that a UNet depends on. */
export interface TextEncoderSizes {
  hiddenSize: number;
  /** Width of the text embeddings of a CLIPTextModelWithProjection. */
  projectionDim: number;
  /** Whether the config says that there is no text projection. */
  lacksProjection: boolean;
  /** The config's file, for errors. */
  where: string;
}

/** Reads the sizes of a text encoder, without its weights. @throws as loadTextEncoder */
export function readTextEncoderSizes(
  source: Source,
  part: 'textEncoder' | 'textEncoder2' = 'textEncoder',
): TextEncoderSizes {
  const config = typeof source === 'string' ? readCLIPTextConfig(source) : configIn(source, part);
  // 512 is transformers' default.
  const { projection_dim: projectionDim = 512, architectures } = config.json;
  return {
    hiddenSize: parseText(config).hiddenSize,
    projectionDim: projectionDim as number,
    lacksProjection: Array.isArray(architectures) && architectures.join() === 'CLIPTextModel',
    where: config.where,
  };
}

/**
 * Loads CLIP's text model from a folder of a CLIPTextModel, a CLIPTextModelWithProjection or a whole CLIPModel. A text
 * projection is not loaded.
 * @throws ConfigError, CheckpointError where the source is another model, or incomplete
 */
export function loadTextEncoder(source: Source, options: LoadOptions = {}): CLIPTextModel {
  if (typeof source !== 'string') {
    const model = new CLIPTextModel(parseText(configIn(source, 'textEncoder')));
    // Single files have transformers' names here.
    return loadPart(model, source, 'textEncoder', new Map(), options);
  }
  const config = readCLIPTextConfig(source);
  const model = new CLIPTextModel(parseText(config));
  return loadFolder(model, source, transformersWeights, adaptCLIPText(config), options);
}

/**
 * Loads CLIP's text model with its projection from a folder of a CLIPTextModelWithProjection or a whole CLIPModel, or the
 * second text encoder of a single file.
 * @returns null where the folder holds a text model without projection
 * @throws as loadTextEncoder
 */
export function loadTextEncoderWithProjection(
  source: Source,
  options: LoadOptions = {},
): CLIPTextModelWithProjection | null {
  if (typeof source !== 'string') {
    const { projectionDim } = readTextEncoderSizes(source, 'textEncoder2');
    const model = new CLIPTextModelWithProjection(parseText(configIn(source, 'textEncoder2')), projectionDim);
    return loadPart(model, source, 'textEncoder2', new Map(), options);
  }
  const config = readCLIPTextConfig(source);
  const projectionDim = tidy(() => textProjectionDim(readWeights(source, transformersWeights).tensors));
  if (projectionDim === null) return null;
  const model = new CLIPTextModelWithProjection(parseText(config), projectionDim);
  const adapt = adaptCLIPText({ ...config, projection: true });
  return loadFolder(model, source, transformersWeights, adapt, options);
}

function parseText({ json, where }: ModelConfig): CLIPTextConfig {
  return parseCLIPTextConfig(json, where);
}

type AnyModel = Module<never[], unknown>;

/** Fills a model with the weights of a folder. @throws CheckpointError where they do not fit */
export function loadFolder<M extends AnyModel>(
  model: M,
  folder: string,
  names: WeightNames,
  adapt: Adapt,
  options: LoadOptions,
): M {
  // Releases unused tensors; the returned ones become the model's.
  const { file, otherForms, ...adapted } = tidy(() => {
    const { tensors, ...origin } = readWeights(folder, names);
    return { ...origin, ...adapt(tensors) };
  });
  const notes = otherForms.length === 0 ? [] : [`not read: ${otherForms.join(', ')}`];
  return fill(model, adapted, file, notes, options);
}

function configIn({ configs, path, family }: SingleFileCheckpoint, part: SingleFilePart): ModelConfig {
  const json = configs[part];
  if (json === undefined) throw new Error(`${path} is ${family.name}, which has no ${part}`);
  return { json, where: `the ${part} of ${path}` };
}

const singleFileAdapts: Record<SingleFilePart, Adapt> = {
  unet: asPublished,
  vae: adaptVAE,
  textEncoder: adaptCLIPText({ isWhole: false }),
  textEncoder2: adaptOpenCLIPText,
};

/** @param ldmKeys the file's name of each parameter that is named differently there */
function loadPart<M extends AnyModel>(
  model: M,
  file: SingleFileCheckpoint,
  part: SingleFilePart,
  ldmKeys: ReadonlyMap<string, string>,
  options: LoadOptions,
): M {
  const names = new Map(Array.from(ldmKeys, ([key, ldmKey]) => [ldmKey, key]));
  const adapt = singleFileAdapts[part];
  const published = file.take(part);
  const adapted = tidy(() =>
    adapt(new Map(Array.from(published, ([ldmKey, tensor]) => [names.get(ldmKey) ?? ldmKey, tensor]))),
  );
  const used = new Set(adapted.tensors.values());
  for (const tensor of published.values()) if (!used.has(tensor)) tensor.dispose();
  return fill(model, adapted, file.path, [], options);
}

/** Gives a model its weights, and reports the file that they are from. */
export function fill<M extends AnyModel>(
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
