/** @file Reads the names and shapes of full-size models that the shared golden data has (`full_size_keys`). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Tensor } from '../src/torch/index.js';
import { golden } from './golden.js';

export type Shapes = Record<string, readonly number[]>;

/** Null where the shared golden data is missing. */
export const fullSizeKeys = golden('full_size_keys');

/** @param file such as 'sdxl_unet.json.gz' */
export function readFullSizeKeys(file: string): { config: Record<string, unknown>; shapes: Shapes } {
  const bytes = readFileSync(join(fullSizeKeys as string, file));
  return JSON.parse((file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString());
}

/** Returns the shapes of a model that was built without weights. */
export function shapesOf(model: { namedParameters(): Map<string, Tensor> }): Shapes {
  return Object.fromEntries(Array.from(model.namedParameters(), ([key, { shape }]) => [key, [...shape]]));
}
