/**
 * @file Paths of golden data and sample images, and a small reader of safetensors, for tests that do not need the engine.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** The folder of sample images, beside the repository; null where it does not exist. */
export const SAMPLE_IMAGES = existing(join(ROOT, '..', 'shared', 'images'));

/** The folder of CLIP's published vocabulary, beside the repository; null where it does not exist. */
export const VOCABULARY = existing(join(ROOT, '..', 'shared', 'clip_tokenizer'));

/** Returns a golden file's path, in the full set beside the repository if it exists, otherwise in the repository. */
export function goldenFile(path: string): string {
  return existing(join(ROOT, '..', 'shared', 'golden', path)) ?? join(ROOT, 'test', 'golden', path);
}

export interface GoldenTensor {
  readonly shape: number[];
  readonly data: Uint8Array | Float32Array;
}

/** Reads the tensors of a golden safetensors file (U8 and F32 only). */
export function readGolden(path: string): Map<string, GoldenTensor> {
  const bytes = readFileSync(goldenFile(path));
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const data = Uint8Array.from(bytes.subarray(start + data_offsets[0], start + data_offsets[1]));
    tensors.set(name, { shape, data: dtype === 'F32' ? new Float32Array(data.buffer) : data });
  }
  return tensors;
}

/** Returns the largest absolute difference of two arrays; infinity where their lengths differ. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let max = 0;
  for (let i = 0; i < a.length; i++) max = Math.max(max, Math.abs(a[i]! - b[i]!));
  return max;
}

function existing(path: string): string | null {
  return existsSync(path) ? path : null;
}
