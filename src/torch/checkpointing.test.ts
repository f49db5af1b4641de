import { describe, expect, it } from 'vitest';
import { expectAllclose, expectSameBytes } from '../../test/golden.js';
import {
  backward,
  checkpoint,
  Generator,
  GradientCheckpoints,
  memoryStats,
  noGrad,
  randn,
  type Tensor,
  tidy,
} from './index.js';

const generator = new Generator('cpu', 1);
const weight = (): Tensor => {
  const parameter = randn([6, 6], { generator });
  parameter.requiresGrad = true;
  return parameter;
};
const [outside, first, second, third] = [weight(), weight(), weight(), weight()] as const;
const weights = [outside, first, second, third];
const x = randn([5, 6], { generator });

/** A model with tokens that two segments use, a skip connection, operators between segments, and an unused output. */
function model(): Tensor {
  const tokens = x.matmul(outside);
  const again = tokens.mul(2);
  const a = checkpoint(([input, text]) => input.matmul(first).add(text).mul(input.matmul(first)), [
    x,
    tokens,
  ] as const);
  checkpoint((input) => input.matmul(third), a);
  const between = a.mul(0.5);
  const b = checkpoint(({ input, text }) => input.matmul(second).mul(text), { input: between, text: again });
  const c = checkpoint(({ states: [input, skip] }) => input.mul(skip).matmul(first), {
    states: [b, a] as const,
  });
  return c.square().mean();
}

/** The loss and each weight's gradient. */
function gradients(run: () => Tensor, after: () => void = () => {}): Tensor[] {
  return tidy(() => {
    const loss = run();
    backward(loss);
    after();
    const grads = weights.map(({ grad }) => grad);
    for (const each of weights) each.grad = null;
    // The output of the third weight's segment is unused.
    expect(grads.map((grad) => grad === null)).toEqual([false, false, false, true]);
    return [loss.detach(), ...grads.filter((grad) => grad !== null)];
  });
}

describe('checkpoint', () => {
  it('gives a bit-identical loss, and the same gradients', () => {
    const expected = gradients(model);
    using checkpoints = new GradientCheckpoints();
    const actual = gradients(model, () => checkpoints.backward());
    expectSameBytes(actual[0] as Tensor, expected[0] as Tensor);
    for (const [i, gradient] of actual.entries()) expectAllclose(gradient, expected[i] as Tensor, 1e-5);
  });

  it('runs a segment once without GradientCheckpoints, or without gradients, and twice with them', () => {
    let runs = 0;
    const counted = (): Tensor =>
      checkpoint((input) => {
        runs++;
        return input.matmul(first);
      }, x).sum();
    tidy(() => backward(counted()));
    expect(runs).toBe(1);
    using checkpoints = new GradientCheckpoints();
    {
      using _ = noGrad();
      tidy(counted);
    }
    expect(runs).toBe(2);
    tidy(() => {
      backward(counted());
      expect(runs).toBe(3);
      checkpoints.backward();
      expect(runs).toBe(4);
    });
    first.grad = null;
  });

  it('keeps only inputs, and releases them after backward', () => {
    const deep = (input: Tensor): Tensor => {
      let hidden = input;
      for (let i = 0; i < 4; i++)
        hidden = checkpoint((state) => {
          let inner = state;
          for (let j = 0; j < 8; j++) inner = inner.mul(inner).add(0.1);
          return inner.mul(0.1);
        }, hidden);
      return hidden.sum();
    };
    const big = randn([1 << 20], { generator });
    big.requiresGrad = true;
    const initialBytes = memoryStats().cpuAllocatedBytes;
    const size = 4 << 20;
    /** Allocated memory, in tensors of that size. */
    const live = (): number => (memoryStats().cpuAllocatedBytes - initialBytes) / size;

    tidy(() => {
      const loss = deep(big);
      expect(live()).toBeGreaterThan(30);
      backward(loss);
    });
    big.grad = null;
    tidy(() => {
      using checkpoints = new GradientCheckpoints();
      const loss = deep(big);
      expect(live()).toBeLessThan(6);
      backward(loss);
      checkpoints.backward();
    });
    big.grad = null;
    expect(live()).toBeLessThan(0.1);

    // A step that throws between forward and backward.
    expect(() =>
      tidy(() => {
        using _ = new GradientCheckpoints();
        deep(big);
        throw new Error('in between');
      }),
    ).toThrow('in between');
    expect(live()).toBeLessThan(0.1);
    big.dispose();
  });
});
