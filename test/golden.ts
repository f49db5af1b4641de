/**
 * @file Reads golden data, tensors recorded by running the original code: in test/golden, and more in ../shared/golden where that
 * exists, with tolerances in its README. Tests run on a GPU if LibTorch finds one; an empty CUDA_VISIBLE_DEVICES hides it.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { Resampler } from '../src/adapters/resampler.js';
import { readSafetensors } from '../src/formats/index.js';
import { cudaDevices, type Tensor, tidy } from '../src/torch/index.js';

/** The device of the tests. */
export const target = { device: cudaDevices() > 0 ? 'cuda' : 'cpu' } as const;

const roots = ['./golden', '../../shared/golden'].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);

/** Returns the path of a golden folder or file; null where it does not exist. */
export function golden(name: string): string | null {
  return roots.map((root) => join(root, name)).find((path) => existsSync(path)) ?? null;
}

/** Returns every golden folder of that name, in the repository and beside it. */
export function goldenFolders(name: string): string[] {
  return roots.map((root) => join(root, name)).filter((path) => existsSync(path));
}

/** Reads the tensors of a recorded file, on the tests' device. */
export function readGolden(file: string): Map<string, Tensor> {
  return tidy(
    () => new Map(Array.from(readSafetensors(file).tensors, ([key, tensor]) => [key, tensor.to(target)])),
  );
}

export interface ModelCase {
  /** For the test's title. */
  name: string;
  /** A model folder with config.json and weights. */
  folder: string;
  /** The recorded inputs and outputs, without the prefix 'case0.'. */
  tensors: Map<string, Tensor>;
}

/**
 * Returns every recorded case of every model in a golden folder whose name starts with `prefix`. A folder may hold several
 * models, each with its own `<model>.io.safetensors` or one io.safetensors, with tensors named 'case0.…', 'case1.…' or
 * without a prefix.
 */
export function modelCases(prefix: string): ModelCase[] {
  return roots.flatMap((root) =>
    list(root)
      .filter((group) => group.startsWith(prefix))
      .flatMap((group) =>
        list(join(root, group))
          .filter((model) => existsSync(join(root, group, model, 'config.json')))
          .flatMap((model) => casesOf(root, group, model)),
      ),
  );
}

function casesOf(root: string, group: string, model: string): ModelCase[] {
  const modelIo = join(root, group, `${model}.io.safetensors`);
  const io = existsSync(modelIo) ? modelIo : join(root, group, 'io.safetensors');
  const cases = new Map<string, Map<string, Tensor>>();
  for (const [key, tensor] of readGolden(io)) {
    const [, label = '', rest = key] = /^(case\d+)\.(.*)$/.exec(key) ?? [];
    if (!cases.has(label)) cases.set(label, new Map());
    cases.get(label)?.set(rest, tensor);
  }
  const where = root === roots[0] ? 'test/golden' : 'shared/golden';
  return Array.from(cases, ([label, tensors]) => ({
    name: [where, group, model, label].filter((part) => part !== '').join('/'),
    folder: join(root, group, model),
    tensors,
  }));
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** Creates a Resampler from the original's configuration. */
export function goldenResampler(config: Record<string, number>): Resampler {
  const at = (key: string) => config[key] as number;
  return new Resampler({
    dim: at('dim'),
    depth: at('depth'),
    dimHead: at('dim_head'),
    heads: at('heads'),
    numQueries: at('num_queries'),
    embeddingDim: at('embedding_dim'),
    outputDim: at('output_dim'),
    ffMult: at('ff_mult'),
  });
}

/** Returns the recorded tensor of that name. */
export function recorded({ name, tensors }: ModelCase, key: string): Tensor {
  const tensor = tensors.get(key);
  if (tensor === undefined)
    throw new Error(`Expected ${key} in ${name} but it has only ${[...tensors.keys()].join(', ')}`);
  return tensor;
}

/** Expects the same shape, and every element within `relOfMax` times the largest expected magnitude. */
export function expectAllclose(actual: Tensor, expected: Tensor, relOfMax: number): void {
  expect(actual.shape).toEqual(expected.shape);
  const values = expected.toNumbers();
  const error = actual
    .toNumbers()
    .reduce((largest, value, i) => worse(largest, Math.abs(value - (values[i] as number))), 0);
  const scale = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  expect(error, `largest error, where the largest expected magnitude is ${scale}`).toBeLessThanOrEqual(
    relOfMax * scale,
  );
}

/** Expects equal shapes, dtypes and bytes. */
export function expectSameBytes(actual: Tensor, expected: Tensor): void {
  expect([actual.dtype, ...actual.shape]).toEqual([expected.dtype, ...expected.shape]);
  expect(Buffer.compare(actual.toBytes(), expected.toBytes()), 'the bytes').toBe(0);
}

// Math.max that propagates NaN, so that NaN fails a test.
function worse(a: number, b: number): number {
  return a > b || Number.isNaN(a) ? a : b;
}
