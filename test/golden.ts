/**
 * @file Golden data: tensors made by running the original code. Cases are in test/golden, and more of them in
 * ../shared/golden where that is present; a case's README there tells the tolerances. Where LibTorch finds a GPU the tests
 * run there, as the programs do; with CUDA_VISIBLE_DEVICES empty it finds none.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { Resampler } from '../src/adapters/resampler.js';
import { readSafetensors } from '../src/formats/index.js';
import { cudaDevices, type Tensor, tidy } from '../src/torch/index.js';

/** Where these tests compute. */
export const target = { device: cudaDevices() > 0 ? 'cuda' : 'cpu' } as const;

const roots = ['./golden', '../../shared/golden'].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);

/** The folder or file of that name; null where it is not on this machine. */
export function golden(name: string): string | null {
  return roots.map((root) => join(root, name)).find((path) => existsSync(path)) ?? null;
}

/** Every folder of that name, here and beside the checkout. */
export function goldenFolders(name: string): string[] {
  return roots.map((root) => join(root, name)).filter((path) => existsSync(path));
}

/** The tensors of a recorded file, where the tests compute. */
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
 * Every recorded case of every model in a golden folder whose name starts with `prefix`: a folder may hold several
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
  const own = join(root, group, `${model}.io.safetensors`);
  const io = existsSync(own) ? own : join(root, group, 'io.safetensors');
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

/** A Resampler of the original, by the names of its configuration. */
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

/** The recorded tensor of that name. */
export function recorded({ name, tensors }: ModelCase, key: string): Tensor {
  const tensor = tensors.get(key);
  if (tensor === undefined) throw new Error(`${name} has no ${key}, only ${[...tensors.keys()].join(', ')}`);
  return tensor;
}

/** Expects the same shape, and every element within `relOfMax` times the largest expected magnitude. */
export function expectAllclose(actual: Tensor, expected: Tensor, relOfMax: number): void {
  expect(actual.shape).toEqual(expected.shape);
  const want = expected.toNumbers();
  const error = actual
    .toNumbers()
    .reduce((most, value, i) => worse(most, Math.abs(value - (want[i] as number))), 0);
  const scale = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  expect(error, `largest error, where the largest expected magnitude is ${scale}`).toBeLessThanOrEqual(
    relOfMax * scale,
  );
}

/** Expects equal shapes, dtypes and values, to the bit. */
export function expectSameBytes(actual: Tensor, expected: Tensor): void {
  expect([actual.dtype, ...actual.shape]).toEqual([expected.dtype, ...expected.shape]);
  expect(Buffer.compare(actual.toBytes(), expected.toBytes()), 'the bytes').toBe(0);
}

// Math.max, except that a NaN stays: it must not pass.
function worse(a: number, b: number): number {
  return a > b || Number.isNaN(a) ? a : b;
}
