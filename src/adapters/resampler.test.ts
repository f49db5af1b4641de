import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { expectAllclose, golden, goldenResampler, readGolden } from '../../test/golden.js';
import { backward, Generator, type Tensor, tidy } from '../torch/index.js';
import { Resampler } from './resampler.js';

it('gives the original output and gradients', () => {
  const folder = golden('resampler') as string;
  const resampler = goldenResampler(JSON.parse(readFileSync(`${folder}/base.config.json`, 'utf8')));
  resampler.loadStateDict(readGolden(`${folder}/base.weights.safetensors`), 'golden');
  resampler.requiresGrad_(true);
  const io = readGolden(`${folder}/base.io.safetensors`);
  const input = io.get('input') as Tensor;
  input.requiresGrad = true;
  const output = resampler.call(input);
  backward(output.mul(io.get('random') as Tensor).mean());
  expectAllclose(output, io.get('output') as Tensor, 1e-6);
  expectAllclose(input.grad as Tensor, io.get('grad.input') as Tensor, 1e-5);
  const gradients = [...io.keys()].filter((key) => key.startsWith('grad.') && key !== 'grad.input');
  const parameters = resampler.namedParameters();
  expect(gradients.map((key) => key.slice('grad.'.length)).sort()).toEqual([...parameters.keys()].sort());
  for (const [key, parameter] of parameters)
    expectAllclose(parameter.grad as Tensor, io.get(`grad.${key}`) as Tensor, 1e-5);
});

it('has the size that SD 1.5 Plus has', () => {
  const resampler = new Resampler({
    dim: 768,
    depth: 4,
    dimHead: 64,
    heads: 12,
    numQueries: 16,
    embeddingDim: 1280,
    outputDim: 768,
    ffMult: 4,
  });
  expect(resampler.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(29_918_208);
});

it('starts as PyTorch would: the same seed, the same values, in the right ranges', () => {
  const config = {
    dim: 64,
    depth: 1,
    dimHead: 16,
    heads: 2,
    numQueries: 4,
    embeddingDim: 100,
    outputDim: 32,
    ffMult: 2,
  };
  const [a, b] = [1, 1].map((seed) =>
    new Resampler(config).init(new Generator('cpu', seed)).namedParameters(),
  );
  const other = new Resampler(config).init(new Generator('cpu', 2)).namedParameters();
  for (const [key, value] of a as Map<string, Tensor>)
    expect(b?.get(key)?.toBytes()).toEqual(value.toBytes());
  const [weight, latents, norm] = ['proj_in.weight', 'latents', 'norm_out.weight'].map((key) =>
    a?.get(key),
  ) as [Tensor, Tensor, Tensor];
  expect(other.get('proj_in.weight')?.toBytes()).not.toEqual(weight.toBytes());
  tidy(() => {
    // Uniform in ±1/√100: bound 0.1, standard deviation 0.1/√3.
    expect(weight.abs().max().item()).toBeLessThanOrEqual(0.1);
    expect(weight.square().mean().sqrt().item()).toBeCloseTo(0.1 / Math.sqrt(3), 3);
    expect(norm.toNumbers()).toEqual(Array(32).fill(1));
    expect(latents.square().mean().item()).toBeCloseTo(1 / 64, 2);
  });
});
