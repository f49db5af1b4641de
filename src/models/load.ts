/** @file Models from the folders in which diffusers and transformers publish them; the only file here that reads files. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, ConfigError } from '../errors.js';
import type { Module } from '../nn/module.js';
import { type Device, type DType, readSafetensors, type Tensor } from '../torch/index.js';
import { AutoencoderKL, parseVAEConfig } from './autoencoder-kl.js';
import { CLIPTextModel, parseCLIPTextConfig } from './clip-text-model.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from './clip-vision-model.js';
import { UNet2DConditionModel } from './unet-2d-condition.js';
import { parseUNetConfig } from './unet-config.js';

export interface LoadOptions {
  /** Default: as in the file. Then, and on the CPU, the weights stay mapped from the file: they take no memory twice. */
  dtype?: DType;
  /** Default: 'cpu'. */
  device?: Device;
}

/** @throws ConfigError, CheckpointError where the folder is not a UNet2DConditionModel's, or is incomplete. */
export function loadUNet(folder: string, options: LoadOptions = {}): UNet2DConditionModel {
  const build = (json: unknown, where: string) => new UNet2DConditionModel(parseUNetConfig(json, where));
  return load(folder, options, {
    kind: { _class_name: 'UNet2DConditionModel' },
    weights: diffusersWeights,
    build,
  });
}

/** @throws ConfigError, CheckpointError where the folder is not an AutoencoderKL's, or is incomplete. */
export function loadVAE(folder: string, options: LoadOptions = {}): AutoencoderKL {
  const build = (json: unknown, where: string) => new AutoencoderKL(parseVAEConfig(json, where));
  const rename = renameOldAttention;
  return load(folder, options, {
    kind: { _class_name: 'AutoencoderKL' },
    weights: diffusersWeights,
    build,
    rename,
  });
}

/** @throws ConfigError, CheckpointError where the folder is not a CLIPTextModel's, or is incomplete. */
export function loadTextEncoder(folder: string, options: LoadOptions = {}): CLIPTextModel {
  const build = (json: unknown, where: string) => new CLIPTextModel(parseCLIPTextConfig(json, where));
  const rename = dropPositionIds;
  return load(folder, options, {
    kind: { model_type: 'clip_text_model' },
    weights: transformersWeights,
    build,
    rename,
  });
}

/** @throws ConfigError, CheckpointError where the folder is not a CLIPVisionModelWithProjection's, or is incomplete. */
export function loadImageEncoder(folder: string, options: LoadOptions = {}): CLIPVisionModelWithProjection {
  const build = (json: unknown, where: string) =>
    new CLIPVisionModelWithProjection(parseCLIPVisionConfig(json, where));
  const rename = dropPositionIds;
  return load(folder, options, {
    kind: { model_type: 'clip_vision_model' },
    weights: transformersWeights,
    build,
    rename,
  });
}

const diffusersWeights = 'diffusion_pytorch_model.safetensors';
const transformersWeights = 'model.safetensors';

interface Recipe<M> {
  /** The key of config.json that tells which model it is, and its value. */
  kind: Record<string, string>;
  weights: string;
  build(json: unknown, where: string): M;
  /** Turns names of older files into today's. */
  rename?(tensors: Map<string, Tensor>): Map<string, Tensor>;
}

function load<M extends Module<never[], unknown>>(
  folder: string,
  { dtype, device }: LoadOptions,
  recipe: Recipe<M>,
): M {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new CheckpointError(
      `Expected a model folder at ${folder} but ${existsSync(folder) ? 'it is a file' : 'there is none'}`,
    );
  const configFile = join(folder, 'config.json');
  const model = recipe.build(readConfig(configFile, recipe.kind), configFile);
  const weightsFile = join(folder, recipe.weights);
  if (!existsSync(weightsFile)) throw new CheckpointError(missingWeights(folder, recipe.weights));
  const { tensors } = readSafetensors(weightsFile);
  model.loadStateDict(recipe.rename?.(tensors) ?? tensors, weightsFile);
  return model.to({ dtype, device });
}

function readConfig(file: string, kind: Record<string, string>): unknown {
  if (!existsSync(file))
    throw new CheckpointError(
      `Expected ${file} but there is none; a model folder has config.json beside its weights`,
    );
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`Expected JSON in ${file} but it cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  const values = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  for (const [key, expected] of Object.entries(kind)) {
    if (values[key] === expected) continue;
    const hint =
      'vision_config' in values
        ? '; it describes a whole CLIP model: give a folder with its vision model alone'
        : '';
    throw new ConfigError(
      `Expected ${key} = ${JSON.stringify(expected)} in ${file} but received ${JSON.stringify(values[key]) ?? 'nothing'}${hint}`,
    );
  }
  return json;
}

function missingWeights(folder: string, name: string): string {
  const stem = name.replace('.safetensors', '');
  const others = [`${stem}.fp16.safetensors`, `${name}.index.json`, `${stem}.bin`, 'pytorch_model.bin'];
  const found = others.filter((other) => existsSync(join(folder, other)));
  const remedy =
    found.length === 0
      ? 'download it from where config.json came from'
      : `there is ${found.join(', ')}, which is not read; save the model as one safetensors file of that name`;
  return `Expected the weights ${join(folder, name)} but there are none: ${remedy}`;
}

// Published before diffusers 0.13 (SD 1.x among them), the autoencoder's attention has other names; some files keep the
// shape of 1×1 convolutions, too.
const oldAttentionNames: Record<string, string> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

function renameOldAttention(tensors: Map<string, Tensor>): Map<string, Tensor> {
  const renamed = new Map<string, Tensor>();
  for (const [key, tensor] of tensors) {
    const match = /^(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)$/.exec(key);
    const name = match === null ? key : `${match[1]}.${oldAttentionNames[match[2] as string]}.${match[3]}`;
    const isConv = tensor.ndim === 4 && /\.attentions\.\d+\./.test(name);
    renamed.set(name, isConv ? tensor.flatten(1) : tensor);
  }
  return renamed;
}

// Older transformers saved the constant 0 … n - 1 with the weights.
function dropPositionIds(tensors: Map<string, Tensor>): Map<string, Tensor> {
  return new Map([...tensors].filter(([key]) => !key.endsWith('.embeddings.position_ids')));
}
