import { availableParallelism } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import {
  backward,
  Generator,
  memoryStats,
  noGrad,
  op,
  randn,
  setNumThreads,
  type Tensor,
  tidy,
} from '../torch/index.js';
import {
  type ConvolutionTile,
  newestConvolutionTable,
  setConvolutionTable,
  tileOfConvolution,
} from './convolution-kernel.js';
import { conv2d } from './functional.js';

const conv3x3 = op('ip_adapter::conv3x3(Tensor x, Tensor weight, Tensor? bias, int tile) -> Tensor');
const theirs = op(
  'aten::conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1) -> Tensor',
);
type Convolve = (x: Tensor, weight: Tensor, bias: Tensor | null) => Tensor;
const reference: Convolve = (x, weight, bias) => theirs(x, weight, bias, [1, 1], [1, 1]);
const inTiles =
  (tile: ConvolutionTile): Convolve =>
  (x, weight, bias) =>
    conv3x3(x, weight, bias, tile);

afterEach(() => {
  setConvolutionTable(newestConvolutionTable);
  setNumThreads(availableParallelism());
});

const bits = (x: Tensor): Buffer => Buffer.from(x.contiguous().toBytes());

/** The largest difference, relative to the largest number. */
const error = (x: Tensor, exact: Tensor): number =>
  x.to('float64').sub(exact).abs().max().item() / exact.abs().max().item();

interface Case {
  x: Tensor;
  weight: Tensor;
  bias: Tensor;
  gradient: Tensor;
}

function makeCase(batch: number, from: number, to: number, height: number, width: number): Case {
  const generator = new Generator('cpu', batch + from + to + height + width);
  const random = (...shape: number[]): Tensor => randn(shape, { generator });
  return {
    ...{ x: random(batch, from, height, width), weight: random(to, from, 3, 3), bias: random(to) },
    gradient: random(batch, to, height, width),
  };
}

/** The result, and the gradient of the input. */
function run(kernel: Convolve, { x, weight, bias, gradient }: Case): [out: Tensor, grad: Tensor] {
  x.requiresGrad = true;
  x.grad = null;
  const out = kernel(x, weight, bias);
  backward(out, { gradient });
  x.requiresGrad = false;
  return [out.detach(), x.grad as unknown as Tensor];
}

const inDouble = ({ x, weight, bias, gradient }: Case): Case => {
  const [a, b, c, d] = [x, weight, bias, gradient].map((one) => one.to('float64')) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  return { x: a, weight: b, bias: c, gradient: d };
};

describe.runIf(conv3x3.available).each([2, 4] as const)('conv3x3 in tiles of %i × %i', (tile) => {
  const ours = inTiles(tile);
  // Sums of products of larger tiles cancel more. LibTorch's own error is 1e-6 to 5e-6.
  const tolerance = tile === 4 ? 6e-6 : 3e-6;

  it.each([
    // Few tiles beside output channels: the weights are transformed block by block.
    [1, 16, 40, 8, 8],
    [1, 33, 67, 7, 5],
    [1, 300, 50, 2, 9],
    [3, 17, 64, 4, 6],
    [2, 600, 35, 3, 3],
    // Many: the tiles are.
    [1, 1, 1, 1, 1],
    [1, 3, 5, 64, 64],
    [1, 16, 16, 33, 31],
    [2, 24, 20, 32, 48],
    [3, 20, 9, 10, 130],
    [2, 37, 33, 1, 300],
    [1, 270, 36, 24, 20],
    [1, 5, 3, 300, 1],
    [1, 40, 40, 50, 98],
    [2, 300, 16, 17, 100],
  ])('of %i × %i → %i channels, %i × %i, is the exact one, and its gradient too', (...shape) => {
    const one = makeCase(...shape);
    const [out, grad] = run(ours, one);
    const [exactOut, exactGrad] = run(reference, inDouble(one));
    expect(out.shape).toEqual(exactOut.shape);
    expect(error(out, exactOut)).toBeLessThan(tolerance);
    expect(error(grad, exactGrad)).toBeLessThan(tolerance);
    const withoutBias = ours(one.x, one.weight, null);
    expect(error(withoutBias, exactOut.sub(one.bias.to('float64').view(1, -1, 1, 1)))).toBeLessThan(
      tolerance,
    );
  });

  it('of a row depends neither on the batch nor on the number of threads', () => {
    // One row has fewer tiles than output channels, five have more.
    const one = makeCase(5, 20, 48, 10, 14);
    const [out, grad] = run(ours, one);
    for (const count of [1, 2, 3]) {
      setNumThreads(count);
      const again = run(ours, one);
      expect(bits(again[0]).equals(bits(out))).toBe(true);
      expect(bits(again[1]).equals(bits(grad))).toBe(true);
      for (let row = 0; row < 5; row++) {
        const part = {
          ...one,
          x: one.x.slice(0, row, row + 1),
          gradient: one.gradient.slice(0, row, row + 1),
        };
        const [rowOut, rowGrad] = run(ours, { ...part, x: part.x.contiguous() });
        expect(bits(rowOut).equals(bits(out.slice(0, row, row + 1)))).toBe(true);
        expect(bits(rowGrad).equals(bits(grad.slice(0, row, row + 1)))).toBe(true);
      }
    }
  });

  it('takes tensors in any memory order', () => {
    const one = makeCase(2, 18, 20, 12, 9);
    const [out, grad] = run(ours, one);
    const other = {
      ...one,
      x: one.x.contiguous('channels_last'),
      weight: one.weight.contiguous('channels_last'),
      gradient: one.gradient.transpose(2, 3).contiguous().transpose(2, 3),
    };
    const [otherOut, otherGrad] = run(ours, other);
    expect(bits(otherOut).equals(bits(out))).toBe(true);
    expect(bits(otherGrad).equals(bits(grad))).toBe(true);
  });

  it('takes an empty batch', () => {
    const [out, grad] = run(ours, makeCase(0, 16, 24, 8, 8));
    expect(out.shape).toEqual([0, 24, 8, 8]);
    expect(grad.shape).toEqual([0, 16, 8, 8]);
  });

  it('refuses what it does not compute', () => {
    const { x, weight, bias } = makeCase(1, 16, 24, 8, 8);
    expect(() => ours(x.to('float64'), weight, bias)).toThrow(/float32/);
    expect(() => ours(x.slice(1, 0, 8), weight, bias)).toThrow(/conv3x3 takes x/);
    expect(() => ours(x, weight, bias.slice(0, 0, 8))).toThrow(/conv3x3 takes x/);
    expect(() => conv3x3(x, weight, bias, 3)).toThrow(/tiles of 2 × 2 or 4 × 4/);
    weight.requiresGrad = true;
    expect(() => ours(x, weight, bias)).toThrow(/no gradient of its weight/);
  });

  it('does not compute a gradient with weights that have changed since', () => {
    const { x, weight, bias, gradient } = makeCase(1, 16, 24, 8, 8);
    x.requiresGrad = true;
    const out = ours(x, weight, bias);
    weight.mul_(2);
    expect(() => backward(out, { gradient })).toThrow(/modified by an inplace operation/);
  });

  it('keeps no memory but its result, forward and backward', () => {
    const one = makeCase(2, 64, 64, 32, 32);
    const step = (): void =>
      tidy(() => {
        run(ours, one);
        one.x.grad = null;
      });
    step();
    const before = memoryStats().cpuAllocatedBytes;
    for (let i = 0; i < 3; i++) step();
    expect(memoryStats().cpuAllocatedBytes).toBe(before);
  });
});

describe.runIf(conv3x3.available)('conv2d', () => {
  const same = (a: Tensor, b: Tensor): boolean => bits(a).equals(bits(b));
  const frozen = makeCase(1, 24, 32, 16, 16);

  it.each([2, 4] as const)(
    'is ours where the weights are frozen, with or without a gradient, in tiles of %i',
    (tile) => {
      const ours = inTiles(tile);
      if (tile === 2) setConvolutionTable(2);
      const [x, grad] = run((...args) => conv2d(...args, 1, 1), frozen);
      const [ourX, ourGrad] = run(ours, frozen);
      expect(same(x, ourX) && same(grad, ourGrad)).toBe(true);
      expect(same(x, reference(frozen.x, frozen.weight, frozen.bias))).toBe(false);
      using _ = noGrad();
      expect(same(conv2d(frozen.x, frozen.weight, null, 1, 1), ours(frozen.x, frozen.weight, null))).toBe(
        true,
      );
    },
  );

  it('follows weights that are changed in place, as by merging a LoRA', () => {
    const { x, weight, bias } = makeCase(1, 24, 32, 16, 16);
    const before = conv2d(x, weight, bias, 1, 1);
    weight.mul_(2);
    const after = conv2d(x, weight, bias, 1, 1);
    expect(error(after.add(bias.view(1, -1, 1, 1)), before.mul(2).to('float64'))).toBeLessThan(1e-6);
  });

  it('is LibTorch’s with the older table, for trained weights, and for every other convolution', () => {
    const { x, weight, bias } = frozen;
    const first = (part: Tensor, count: number): Tensor => part.slice(1, 0, count).contiguous();
    const double = inDouble(frozen);
    for (const [a, b, c, stride, padding] of [
      [x, weight, bias, 2, 1],
      [x, weight, bias, 1, 0],
      [x, weight.slice(3, 0, 1).slice(2, 0, 1).contiguous(), bias, 1, 1],
      [first(x, 8), first(weight, 8), bias, 1, 1],
      [double.x, double.weight, double.bias, 1, 1],
    ] as const)
      expect(
        same(conv2d(a, b, c, stride, padding), theirs(a, b, c, [stride, stride], [padding, padding])),
      ).toBe(true);

    const plain = reference(x, weight, bias);
    setConvolutionTable(1);
    expect(same(conv2d(x, weight, bias, 1, 1), plain)).toBe(true);
    setConvolutionTable(newestConvolutionTable);
    for (const trained of [weight, bias]) {
      trained.requiresGrad = true;
      const out = conv2d(x, weight, bias, 1, 1);
      expect(same(out.detach(), plain)).toBe(true);
      backward(out.sum());
      expect(trained.grad).not.toBeNull();
      trained.requiresGrad = false;
    }
  });

  it('is in tiles of 2 × 2 for small images', () => {
    const { x, weight, bias } = makeCase(1, 24, 32, 40, 15);
    expect(same(conv2d(x, weight, bias, 1, 1), inTiles(2)(x, weight, bias))).toBe(true);
  });

  it('leaves what is wrong to LibTorch’s message', () => {
    const { x, weight, bias } = frozen;
    expect(() => conv2d(x.slice(1, 0, 20), weight, bias, 1, 1)).toThrow(/channels/);
    expect(() => conv2d(x, weight.to('float64'), bias, 1, 1)).toThrow(/type|dtype/i);
  });
});

it('chooses by a table: from 16 channels on ours, from 16 × 16 on in tiles of 4 × 4', () => {
  const shape = {
    ...{ inChannels: 16, outChannels: 320, height: 16, width: 64, kernel: [3, 3], stride: 1, padding: 1 },
    dtype: 'float32' as const,
  };
  expect(tileOfConvolution(shape)).toBe(4);
  for (const small of [{ height: 15 }, { width: 15 }])
    expect(tileOfConvolution({ ...shape, ...small })).toBe(2);
  for (const other of [
    { inChannels: 15 },
    { outChannels: 4 },
    { kernel: [1, 1] },
    { kernel: [3, 1] },
    { stride: 2 },
    { padding: 0 },
    { dtype: 'bfloat16' as const },
  ])
    expect(tileOfConvolution({ ...shape, ...other })).toBeNull();
  setConvolutionTable(2);
  expect(tileOfConvolution(shape)).toBe(2);
  setConvolutionTable(1);
  expect(tileOfConvolution(shape)).toBeNull();
});
