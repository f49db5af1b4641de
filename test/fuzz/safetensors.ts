/** @file Hostile safetensors: the header's JSON and its length are changed apart from the data. */
import { join } from 'node:path';
import { pick, type Random } from '../../demo/world/random.js';
import { readSafetensors } from '../../src/formats/index.js';
import { type DType, dtypes, Tensor, tidy } from '../../src/torch/index.js';
import { below, edgeNumbers, mutateBytes, overwrite } from './bytes.js';
import { mutateJson } from './json.js';
import type { Target } from './target.js';

/** A file of `bytes` bytes of data under any header. */
function craftSafetensors(header: Buffer, data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

/** Changes a well-formed file: its header, its header's length, or any of its bytes. */
export function mutateSafetensors(seeds: readonly Buffer[], random: Random): Buffer {
  const kind = random();
  if (kind < 0.2) return mutateBytes(seeds, random);
  const seed = pick(seeds, random);
  const dataStart = 8 + Number(seed.readBigUInt64LE());
  const header = mutateJson([seed.toString('utf8', 8, dataStart)], random);
  const crafted = craftSafetensors(header, seed.subarray(dataStart));
  if (kind < 0.3)
    overwrite(crafted, 0, 8, pick(edgeNumbers, random) + BigInt(below(2, random) * header.length), 'LE');
  return crafted;
}

/** A tensor of every dtype, one without values, one without dimensions. */
function smallFile(): Buffer {
  const header: Record<string, object> = { __metadata__: { format: 'pt', keys: 'a b' } };
  let end = 0;
  const add = (name: string, dtype: DType, shape: number[]) => {
    const bytes = shape.reduce((product, size) => product * size, dtypes[dtype].bytes);
    header[name] = { dtype: dtypes[dtype].safetensors, shape, data_offsets: [end, end + bytes] };
    end += bytes;
  };
  for (const dtype of Object.keys(dtypes) as DType[]) add(dtype, dtype, [2, 3, 4]);
  add('empty', 'float32', [0, 5]);
  add('scalar', 'int64', []);
  return craftSafetensors(Buffer.from(JSON.stringify(header)), Buffer.alloc(end, 'data'));
}

/** Touches every byte, so that a view past the file's end is felt. */
export function touch(value: unknown): void {
  if (value instanceof Tensor) value.toBytes();
  else if (Array.isArray(value) || value instanceof Map) for (const item of value.values()) touch(item);
}

export function safetensorsTarget(folder: string): Target {
  const seeds = [
    smallFile(),
    craftSafetensors(
      Buffer.from('{"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}   '),
      Buffer.alloc(8),
    ),
    craftSafetensors(Buffer.from('{}'), Buffer.alloc(0)),
  ];
  const file = join(folder, 'input.safetensors');
  const read = () => {
    const { tensors, metadata } = readSafetensors(file);
    touch(tensors);
    // Metadata is used as texts by whoever asked for it.
    for (const text of Object.values(metadata)) text.split(' ');
  };
  return { file, make: (random) => mutateSafetensors(seeds, random), read: () => tidy(read) };
}
