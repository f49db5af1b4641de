/** @file The weights in a model folder, in each form in which diffusers and transformers publish them. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, shown } from '../base/errors.js';
import { readSafetensors, readTorchZip } from '../formats/index.js';
import { Tensor } from '../torch/index.js';

/** A library's name for its weights, without the endings. */
export interface WeightNames {
  safetensors: string;
  bin: string;
}

export const diffusersWeights: WeightNames = {
  safetensors: 'diffusion_pytorch_model',
  bin: 'diffusion_pytorch_model',
};
export const transformersWeights: WeightNames = { safetensors: 'model', bin: 'pytorch_model' };

/** Tensors by their published names, and where they are from. */
export interface FoundWeights {
  tensors: Map<string, Tensor>;
  /** The file; for shards, the index that lists them. */
  file: string;
  /** Names of other forms of the same weights in the folder, which were not read. */
  otherForms: string[];
}

/**
 * Reads the first form that is there: full precision before half, since it can be converted to any other;
 * safetensors, which are mapped, before .bin, whose checksums must be read; one file before shards:
 *
 *     <name>.safetensors, <name>.safetensors.index.json,
 *     <name>.fp16.safetensors, <name>.safetensors.index.fp16.json,
 *     and the same four with .bin
 *
 * @throws CheckpointError where none is there, or shards are missing or do not agree with their index
 */
export function readWeights(folder: string, names: WeightNames): FoundWeights {
  const forms = weightForms(names);
  const [first, ...otherForms] = forms.filter((name) => existsSync(join(folder, name)));
  if (first === undefined) throw new CheckpointError(missingWeights(folder, forms));
  const file = join(folder, first);
  return { tensors: first.endsWith('.json') ? readShards(folder, file) : readFile(file), file, otherForms };
}

/** The files that may hold a model's weights, or list their shards, in the order in which `readWeights` looks for them. */
export function weightForms(names: WeightNames): string[] {
  return [...formsOf(`${names.safetensors}.safetensors`), ...formsOf(`${names.bin}.bin`)];
}

/** The tensors of one file, which its ending tells how to read. */
function readFile(file: string): Map<string, Tensor> {
  return file.endsWith('.safetensors') ? readSafetensors(file).tensors : readTensorBin(file, 'refuse');
}

/**
 * The tensors of a torch file: its dictionary, or the one that it has under `state_dict`, as training scripts save it.
 * @param others see `readTorchZip`
 * @throws CheckpointError as that, and where there is something else among the tensors
 */
export function readTensorBin(file: string, others: 'refuse' | 'skip'): Map<string, Tensor> {
  const content = readTorchZip(file, others);
  const nested = content instanceof Map ? content.get('state_dict') : undefined;
  const dictionary = nested instanceof Map ? nested : content;
  const fail = (what: string): never => {
    throw new CheckpointError(`Expected a dictionary of tensors in ${file} but ${what}`);
  };
  if (!(dictionary instanceof Map) || dictionary.size === 0) return fail('it holds none');
  const tensors = new Map<string, Tensor>();
  for (const [key, value] of dictionary) {
    if (typeof key !== 'string' || !(value instanceof Tensor)) return fail(`its ${String(key)} is no tensor`);
    tensors.set(key, value);
  }
  return tensors;
}

function formsOf(name: string): string[] {
  const half = name.replace(/\.(\w+)$/, '.fp16.$1');
  return [name, `${name}.index.json`, half, `${name}.index.fp16.json`];
}

/** Every tensor that an index lists, each from its own shard. */
function readShards(folder: string, indexFile: string): Map<string, Tensor> {
  const shardOf = readIndex(indexFile);
  const shards = [...new Set(shardOf.values())];
  const missing = shards.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0)
    throw new CheckpointError(
      `Expected the ${shards.length} shards of ${indexFile} beside it but ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing; download what is missing`,
    );
  const tensors = new Map<string, Tensor>();
  const strays: string[] = [];
  for (const shard of shards)
    for (const [key, tensor] of readFile(join(folder, shard))) {
      if (shardOf.get(key) === shard) tensors.set(key, tensor);
      else strays.push(`${key} in ${shard}`);
    }
  const lost = [...shardOf].filter(([key]) => !tensors.has(key)).map(([key, shard]) => `${key} in ${shard}`);
  if (lost.length + strays.length > 0)
    throw new CheckpointError(
      `Expected the shards of ${indexFile} to hold what it lists but ${[
        ...(lost.length > 0 ? [`${lost.length} are missing (${lost.slice(0, 3).join('; ')})`] : []),
        ...(strays.length > 0
          ? [`${strays.length} are not listed there (${strays.slice(0, 3).join('; ')})`]
          : []),
      ].join(' and ')}; the shards are of another version than the index: download the folder again`,
    );
  return tensors;
}

/** The files that an index lists, without their folder. @throws CheckpointError where it is no index */
export function shardsOf(indexFile: string): string[] {
  return [...new Set(readIndex(indexFile).values())];
}

/** Which file holds each tensor. */
function readIndex(file: string): Map<string, string> {
  const fail = (what: string): never => {
    throw new CheckpointError(`Expected an index with a weight_map in ${file} but ${what}`);
  };
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    return fail((cause as Error).message);
  }
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Object.keys(map).length === 0) return fail('it has none');
  for (const [key, shard] of Object.entries(map)) {
    // A name alone: an index has no business outside its folder.
    const isName = typeof shard === 'string' && /^[^/\\]+\.(safetensors|bin)$/.test(shard);
    if (!isName) return fail(`it names ${shown(shard)} for ${key}, which is no weights file's name`);
  }
  return new Map(Object.entries(map as Record<string, string>));
}

function missingWeights(folder: string, forms: string[]): string {
  const like = /\.(safetensors|bin|index\.json|msgpack|h5|onnx|ckpt|pt|pth)$/;
  const others = readdirSync(folder).filter((name) => like.test(name) && isFile(join(folder, name)));
  const remedy =
    others.length === 0
      ? 'download them from where config.json came from'
      : `${others.sort().join(', ')} ${others.length === 1 ? 'has another name' : 'have other names'}; read are ${forms.join(', ')}`;
  return `Expected weights such as ${join(folder, forms[0] as string)} but there are none: ${remedy}`;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
