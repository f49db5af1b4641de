/** @file How far two results are from each other. */
import { readImage } from '../../src/images/image.js';
import { fileSource } from '../../src/images/image-source.js';
import { type Tensor, tidy } from '../../src/torch/index.js';

type Tensors = ReadonlyMap<string, Tensor>;

/** Returns max|a − b| / max|b|, or / `unit` where that is given. */
export function maxError(a: Tensor, b: Tensor, unit = maxAbs(b)): number {
  if (a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  return tidy(() => maxAbs(a.to('float64').sub(b.to('float64')))) / unit;
}

function maxAbs(a: Tensor): number {
  return tidy(() => a.abs().max().item());
}

/** Returns the Euclidean distance between all of two sets of weights. */
export function distance(a: Tensors, b: Tensors): number {
  const squares = [...b].map(([key, value]) =>
    tidy(() => (a.get(key) as Tensor).detach().sub(value).square().sum().item()),
  );
  return Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
}

/** Returns the mean and the largest difference between the bytes of two image files. */
export async function imageDifference(a: string, b: string): Promise<{ mean: number; max: number }> {
  const [first, second] = await Promise.all([a, b].map((file) => readImage(fileSource(file))));
  const bytes = (second as typeof first)?.data as Uint8Array;
  const differences = Array.from(first?.data as Uint8Array, (value, i) =>
    Math.abs(value - (bytes[i] ?? 255)),
  );
  return {
    mean: differences.reduce((sum, one) => sum + one, 0) / differences.length,
    max: differences.reduce((max, one) => Math.max(max, one), 0),
  };
}
