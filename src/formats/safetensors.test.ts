import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError } from '../base/errors.js';
import { type Tensor, tensor } from '../torch/index.js';
import { readSafetensors, safetensorsSize, writeSafetensors } from './index.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Writes a file from a header object (or raw text) and a number of data bytes. */
function craft(header: unknown, dataBytes: number, name = 'x.safetensors'): string {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat([length, text, Buffer.alloc(dataBytes, 1)]));
  return path;
}

describe('safetensors', () => {
  it('reads back bit-exactly what it wrote, with every dtype', () => {
    const tensors = new Map([
      ['a', tensor([1.5, -2, 3, 4, 5, 6], [2, 3])],
      ['half', tensor([1, 2], [2], 'float16')],
      ['brain', tensor([1, 2], [2], 'bfloat16')],
      ['odd', tensor([1, 2, 3], [3], 'uint8')],
      ['after odd', tensor([7], [1], 'int64')],
      ['empty', tensor([], [0, 4])],
      ['scalar', tensor([9], [])],
    ]);
    const path = join(folder, 'x.safetensors');
    writeSafetensors(path, tensors, { format: 'pt' });
    const { tensors: read, metadata } = readSafetensors(path);
    expect(metadata).toEqual({ format: 'pt' });
    expect([...read.keys()]).toEqual([...tensors.keys()]);
    for (const [name, value] of tensors) {
      expect(read.get(name)?.shape).toEqual(value.shape);
      expect(read.get(name)?.dtype).toBe(value.dtype);
      expect(read.get(name)?.toBytes()).toEqual(value.toBytes());
    }
    expect(existsSync(`${path}.partial`)).toBe(false);
    expect(safetensorsSize(tensors, { format: 'pt' })).toBe(statSync(path).size);
  });

  it('tells mapped tensors from copies', () => {
    const path = join(folder, 'x.safetensors');
    writeSafetensors(path, new Map([['a', tensor([1, 2], [2])]]));
    const a = readSafetensors(path).tensors.get('a') as Tensor;
    const copies = [a.clone(), a.to('bfloat16'), a.add(1), tensor([1], [1])];
    expect([a, a.slice(0, 1), a.to('float32')].map(({ isMapped }) => isMapped)).toEqual([true, true, true]);
    expect(copies.map(({ isMapped }) => isMapped)).toEqual([false, false, false, false]);
  });

  it('does not change the file when a mapped tensor is written to', () => {
    const path = join(folder, 'x.safetensors');
    writeSafetensors(path, new Map([['a', tensor([1, 2], [2])]]));
    const original = readFileSync(path);
    const a = readSafetensors(path).tensors.get('a');
    a?.add_(5);
    expect(a?.toNumbers()).toEqual([6, 7]);
    expect(readFileSync(path)).toEqual(original);
  });

  const f32 = (shape: number[], offsets: number[]) => ({ dtype: 'F32', shape, data_offsets: offsets });
  it.each([
    [
      'a header larger than the file',
      () => craft('{}', 0),
      (path: string) => writeFileSync(path, Buffer.from([255, 0, 0, 0, 0, 0, 0, 0, 123])),
      /claims 255 bytes/,
    ],
    [
      'a truncated file',
      () => craft({ a: f32([4], [0, 16]) }, 16),
      (path: string) => truncateSync(path, 60),
      /truncated/,
    ],
    ['fewer than 8 bytes', () => craft('{}', 0), (path: string) => truncateSync(path, 3), /3 bytes/],
    ['a header that is not JSON', () => craft('{"a":', 0), null, /not JSON/],
    ['a header that is an array', () => craft('[]', 0), null, /not a JSON object/],
    [
      'an unknown dtype',
      () => craft({ a: { dtype: 'F4', shape: [1], data_offsets: [0, 4] } }, 4),
      null,
      /dtype "F4", which is not supported\. Get/,
    ],
    [
      'fp8 weights',
      () => craft({ a: { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } }, 4),
      null,
      /"F8_E4M3", which is not supported: fp8 weights cannot be read, use the file with float16/,
    ],
    ['offsets that do not fit the shape', () => craft({ a: f32([3], [0, 16]) }, 16), null, /needs 12 bytes/],
    ['a negative size', () => craft({ a: f32([-1], [0, 4]) }, 4), null, /no valid shape/],
    ['an overflowing shape', () => craft({ a: f32([2 ** 40, 2 ** 40], [0, 4]) }, 4), null, /no valid shape/],
    ['a null entry', () => craft({ a: null }, 4), null, /dtype/],
    // LibTorch does not support these shapes, although their bytes are in the file.
    [
      'an overflowing shape without values',
      () => craft({ a: f32([2 ** 40, 2 ** 40, 0], [0, 0]) }, 0),
      null,
      /no valid shape/,
    ],
    [
      'more than 64 dimensions',
      () => craft({ a: f32(Array(65).fill(1), [0, 4]) }, 4),
      null,
      /no valid shape/,
    ],
    // Unaligned tensors are copied, so overlapping ones could take any amount of memory.
    [
      'overlapping tensors',
      () => craft({ a: f32([2], [0, 8]), b: f32([2], [4, 12]) }, 12),
      null,
      /'a' and 'b' overlap/,
    ],
    [
      'metadata that is not text',
      () => craft({ __metadata__: { keys: 7 } }, 0),
      null,
      /not an object of strings/,
    ],
    [
      'a dtype nested deeper than the stack',
      () => craft(`{"a":{"dtype":${'['.repeat(50_000)}${']'.repeat(50_000)}}}`, 0),
      null,
      /too deeply/,
    ],
  ])('names %s', (_, make, spoil, message) => {
    const path = make();
    spoil?.(path);
    expect(() => readSafetensors(path)).toThrow(CheckpointError);
    expect(() => readSafetensors(path)).toThrow(message);
    expect(() => readSafetensors(path)).toThrow(path);
  });

  it('names a missing file', () => {
    expect(() => readSafetensors(join(folder, 'none.safetensors'))).toThrow(/none\.safetensors/);
  });

  it('either reads a file of any bytes or throws a CheckpointError', () => {
    const good = readFileSync(craft({ a: f32([4], [0, 16]), b: f32([2, 2], [16, 32]) }, 32));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }),
        fc.nat(good.length),
        (changes, length) => {
          const bytes = Buffer.from(good);
          for (const [at, value] of changes) bytes[at] = value;
          const path = join(folder, 'fuzz.safetensors');
          writeFileSync(path, bytes.subarray(0, length));
          try {
            for (const value of readSafetensors(path).tensors.values()) value.toBytes();
          } catch (error) {
            expect(error).toBeInstanceOf(CheckpointError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
