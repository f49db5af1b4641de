/** @file Reads the weights of a model folder, in all file forms that diffusers and transformers write. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, shown } from '../base/errors.js';
import { isJsonObject, readJsonObject } from '../base/json.js';
import { readSafetensors, readTorchZip } from '../formats/index.js';
import { Tensor } from '../torch/index.js';

/** A library's names for weight files, without the extensions. */
export interface WeightNames {
  safetensors: string;
  bin: string;
}

export const diffusersWeights: WeightNames = {
  safetensors: 'diffusion_pytorch_model',
  bin: 'diffusion_pytorch_model',
};
export const transformersWeights: WeightNames = { safetensors: 'model', bin: 'pytorch_model' };

/** Tensors by their published names, and the file that they were read from. */
export interface FolderWeights {
  tensors: Map<string, Tensor>;
  /** The weights file, or the index of its shards. */
  file: string;
  /** Names of files that hold the same weights in other forms, which were not read. */
  otherForms: string[];
}

/**
 * Reads the first of these forms that exists: safetensors, which are mapped, before .bin, which is read to verify checksums;
 * full precision, which can be converted to any other, before half; one file before shards:
 *
 *     <name>.safetensors, <name>.safetensors.index.json,
 *     <name>.fp16.safetensors, <name>.safetensors.index.fp16.json,
 *     and the same four with .bin
 *
 * @throws CheckpointError where there is none, or shards are missing or do not match their index
 */
export function readWeights(folder: string, names: WeightNames): FolderWeights {
  const forms = weightForms(names);
  const [first, ...otherForms] = forms.filter((name) => existsSync(join(folder, name)));
  if (first === undefined) throw new CheckpointError(missingWeights(folder, forms));
  const file = join(folder, first);
  return { tensors: first.endsWith('.json') ? readShards(folder, file) : readFile(file), file, otherForms };
}

/** Returns the names of weight files and shard indexes, in the order in which `readWeights` looks for them. */
export function weightForms(names: WeightNames): string[] {
  return [...formsOf(`${names.safetensors}.safetensors`), ...formsOf(`${names.bin}.bin`)];
}

/** Reads the tensors of one file, in the format of its extension. */
function readFile(file: string): Map<string, Tensor> {
  return file.endsWith('.safetensors') ? readSafetensors(file).tensors : readTensorBin(file, 'refuse');
}

/**
 * Reads the tensors of a torch file: its dictionary, or the dictionary under its key `state_dict`, as training scripts save.
 * @param others see `readTorchZip`
 * @throws CheckpointError as `readTorchZip`, and where the dictionary contains other values
 */
export function readTensorBin(file: string, others: 'refuse' | 'skip'): Map<string, Tensor> {
  const content = readTorchZip(file, others);
  const nested = content instanceof Map ? content.get('state_dict') : undefined;
  const dictionary = nested instanceof Map ? nested : content;
  const fail = (reason: string): never => {
    throw new CheckpointError(`Expected a dictionary of tensors in ${file} but ${reason}`);
  };
  if (!(dictionary instanceof Map) || dictionary.size === 0) return fail('there is none');
  const tensors = new Map<string, Tensor>();
  for (const [key, value] of dictionary) {
    if (typeof key !== 'string' || !(value instanceof Tensor))
      return fail(`its ${String(key)} is not a tensor`);
    tensors.set(key, value);
  }
  return tensors;
}

function formsOf(name: string): string[] {
  const half = name.replace(/\.(\w+)$/, '.fp16.$1');
  return [name, `${name}.index.json`, half, `${name}.index.fp16.json`];
}

/** Reads every tensor that an index lists, each from its own shard. */
function readShards(folder: string, indexFile: string): Map<string, Tensor> {
  const shardOf = readIndex(indexFile);
  const shards = [...new Set(shardOf.values())];
  const missing = shards.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0)
    throw new CheckpointError(
      `Expected the ${shards.length} shards of ${indexFile} beside it but ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing; download the missing files`,
    );
  const tensors = new Map<string, Tensor>();
  const unlisted: string[] = [];
  for (const shard of shards)
    for (const [key, tensor] of readFile(join(folder, shard))) {
      if (shardOf.get(key) === shard) tensors.set(key, tensor);
      else unlisted.push(`${key} in ${shard}`);
    }
  const absent = [...shardOf]
    .filter(([key]) => !tensors.has(key))
    .map(([key, shard]) => `${key} in ${shard}`);
  if (absent.length + unlisted.length > 0)
    throw new CheckpointError(
      `Expected the shards of ${indexFile} to hold exactly the tensors that it lists but ${[
        ...(absent.length > 0 ? [`${absent.length} are missing (${absent.slice(0, 3).join('; ')})`] : []),
        ...(unlisted.length > 0
          ? [`${unlisted.length} are not listed there (${unlisted.slice(0, 3).join('; ')})`]
          : []),
      ].join(' and ')}; the shards belong to another version than the index: download the folder again`,
    );
  return tensors;
}

/** Returns the file names that an index lists. @throws CheckpointError where the file is not an index */
export function shardsOf(indexFile: string): string[] {
  return [...new Set(readIndex(indexFile).values())];
}

/** Returns the name of the shard that holds each tensor. */
function readIndex(file: string): Map<string, string> {
  const fail = (reason: string): never => {
    throw new CheckpointError(`Expected an index with a weight_map in ${file} but ${reason}`);
  };
  const { weight_map: map } = readJsonObject(file, CheckpointError);
  if (!isJsonObject(map) || Object.keys(map).length === 0) return fail('there is none');
  for (const [key, shard] of Object.entries(map)) {
    // A name without path: an index must not refer to files outside its folder.
    const isName = typeof shard === 'string' && /^[^/\\]+\.(safetensors|bin)$/.test(shard);
    if (!isName) return fail(`it names ${shown(shard)} for ${key}, which is not the name of a weights file`);
  }
  return new Map(Object.entries(map as Record<string, string>));
}

function missingWeights(folder: string, forms: string[]): string {
  const weightsLike = /\.(safetensors|bin|index\.json|msgpack|h5|onnx|ckpt|pt|pth)$/;
  const others = readdirSync(folder).filter((name) => weightsLike.test(name) && isFile(join(folder, name)));
  const remedy =
    others.length === 0
      ? 'download them from where config.json is from'
      : `${others.sort().join(', ')} ${others.length === 1 ? 'has another name' : 'have other names'}; supported names are ${forms.join(', ')}`;
  return `Expected weights such as ${join(folder, forms[0] as string)} but there are none: ${remedy}`;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
