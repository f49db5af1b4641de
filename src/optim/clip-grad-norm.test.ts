import { describe, expect, it } from 'vitest';
import { expectAllclose, expectSameBytes } from '../../test/golden.js';
import { tensor } from '../torch/index.js';
import { clipGradNorm, gradientsOf, gradNorm } from './clip-grad-norm.js';

const values = [0.5, -2, 3, 0.25, -1.5, 4, 0.125];
const gradients = () => [tensor(values.slice(0, 4), [2, 2]), tensor(values.slice(4), [3])];

describe('the global norm', () => {
  it('is the norm of all gradients as one vector', () => {
    const byHand = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
    expect(Math.abs(gradNorm(gradients()).item() / byHand - 1)).toBeLessThan(1e-7);
    expect(gradNorm([tensor([3, 4], [2])]).item()).toBe(5);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('is not finite for a single %s', (bad) => {
    const [first, second] = gradients() as [ReturnType<typeof tensor>, ReturnType<typeof tensor>];
    expect(gradNorm([first, second]).item()).toBeLessThan(6);
    expect(Number.isFinite(gradNorm([first, second, tensor([0, bad], [2])]).item())).toBe(false);
  });

  it('includes only parameters with a gradient', () => {
    const [a, b] = [tensor([1, 1], [2]), tensor([1], [1])];
    for (const parameter of [a, b]) parameter.requiresGrad = true;
    b.grad = tensor([7], [1]);
    expect(gradientsOf([a, b]).map((gradient) => gradient.toNumbers())).toEqual([[7]]);
  });
});

describe('clipping', () => {
  const clipped = (made: ReturnType<typeof gradients>, maxNorm: number) => {
    clipGradNorm(made, gradNorm(made), maxNorm);
    return tensor(
      made.flatMap((gradient) => gradient.toNumbers()),
      [made.reduce((sum, { numel }) => sum + numel, 0)],
    );
  };

  it('equals torch.nn.utils.clip_grad_norm_', () => {
    const expected = [0.088976793, -0.355907172, 0.533860743, 0.0444883965, -0.266930372, 0.711814344];
    expectAllclose(clipped(gradients(), 1), tensor([...expected, 0.0222441982], [7]), 1e-7);
    // Here the 1e-6 in the denominator matters.
    const small = clipped([tensor([1e-7, 2e-7], [2])], 1e-7);
    expectAllclose(small, tensor([8.17255952e-9, 1.6345119e-8], [2]), 1e-6);
  });

  it('does not change gradients below the limit', () => {
    expectSameBytes(clipped(gradients(), 5.62), tensor(values, [7]));
  });
});
