/** @file Writes model files in all published forms, for tests. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors, writeSafetensors } from '../src/formats/index.js';
import { type DType, dtypes, type Tensor } from '../src/torch/index.js';
import { code, craftTorchZip } from './craft-torch-zip.js';

export type Tensors = ReadonlyMap<string, Tensor>;

export const writeJson = (file: string, value: unknown) => writeFileSync(file, JSON.stringify(value));
export const readJson = (file: string) => JSON.parse(readFileSync(file, 'utf8'));

/** Reads the tensors of a golden model's folder. @param name the weight file's name, without extension */
export function weightsOf(folder: string, name: string): Map<string, Tensor> {
  return readSafetensors(join(folder, `${name}.safetensors`)).tensors;
}

const storages: Partial<Record<DType, string>> = {
  float32: 'FloatStorage',
  float16: 'HalfStorage',
  int64: 'LongStorage',
};

/** Returns the pickle of a state dict, with the i-th tensor in storage i. */
export function pickleStateDict(tensors: Tensors): Buffer {
  const items = [...tensors].map(([key, { dtype, shape, numel, strides }], i) => {
    const storage = code.storage(storages[dtype] as string, String(i), numel);
    return Buffer.concat([code.text(key), code.view(storage, 0, [...shape], [...strides])]);
  });
  return Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]);
}

/** Writes a torch file. `wrap` may embed the state dict in another structure. */
export function writeBin(path: string, tensors: Tensors, wrap = (stateDict: Buffer) => stateDict): void {
  const bytes = [...tensors.values()].map((tensor, i) => [String(i), tensor.toBytes()] as const);
  craftTorchZip(path, wrap(pickleStateDict(tensors)), Object.fromEntries(bytes));
}

/** Writes three shards and their index, named as by `save_pretrained`. */
export function writeShards(
  folder: string,
  name: string,
  ending: 'safetensors' | 'bin',
  tensors: Tensors,
): void {
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < 3; shard++) {
    const file = `${name}-0000${shard + 1}-of-00003.${ending}`;
    const shardTensors = new Map([...tensors].filter((_, i) => i % 3 === shard));
    for (const key of shardTensors.keys()) weightMap[key] = file;
    if (ending === 'bin') writeBin(join(folder, file), shardTensors);
    else writeSafetensors(join(folder, file), shardTensors);
  }
  writeJson(join(folder, `${name}.${ending}.index.json`), {
    metadata: { total_size: 1 },
    weight_map: weightMap,
  });
}

/**
 * Writes a sparse safetensors file, which uses little disk space whatever its size. The data is a hole except for the first
 * element of each tensor, which is the tensor's index in the file (float32, or float16 up to 2048).
 */
export function writeSparse(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  dtype: 'float32' | 'float16' = 'float32',
): void {
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of shapes) {
    const begin = end;
    end += shape.reduce((product, size) => product * size, dtypes[dtype].bytes);
    header[name] = { dtype: dtypes[dtype].safetensors, shape, data_offsets: [begin, end] };
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([length, text]));
  ftruncateSync(file, 8 + text.length + end);
  for (const [i, entry] of Object.values(header).entries()) {
    const [begin] = (entry as { data_offsets: [number, number] }).data_offsets;
    const first = dtype === 'float32' ? Buffer.from(Float32Array.of(i).buffer) : halfOf(i);
    writeSync(file, first, 0, first.length, 8 + text.length + begin);
  }
  closeSync(file);
}

/** Returns the bytes of a whole number from 0 to 2048 as float16. */
function halfOf(value: number): Buffer {
  const exponent = value === 0 ? 0 : Math.floor(Math.log2(value));
  const bits = value === 0 ? 0 : ((exponent + 15) << 10) | ((value / 2 ** exponent - 1) * 1024);
  return Buffer.from(Uint16Array.of(bits).buffer);
}

/** Returns the index that `writeSparse` wrote at the start of a tensor. */
export function sparsePosition(tensor: Tensor): number {
  return tensor.reshape(-1).slice(0, 0, 1).to('float32').item();
}
