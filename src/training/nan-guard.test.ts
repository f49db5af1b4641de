import { expect, it } from 'vitest';
import { TrainingError } from '../base/errors.js';
import { gradientsOf, gradNorm } from '../optim/clip-grad-norm.js';
import { firstNonFinite } from '../torch/finite.js';
import { backward, type Tensor, tensor } from '../torch/index.js';
import { NanGuard } from './nan-guard.js';

const values = (...of: number[]): Tensor => tensor(Float32Array.from(of), [of.length]);
const nameOf = (row: number): string => `${row}.png`;
const details = (parameters = new Map<string, Tensor>()) => ({
  step: 12,
  timesteps: tensor(BigInt64Array.of(31n, 870n), [2]),
  rows: [3, 5],
  parameters,
});
const scalar = (value: number): Tensor => tensor(Float32Array.of(value), []);

it('finds the first tensor that is not finite, and no large one', () => {
  const named = (...of: Tensor[]): [string, Tensor][] => of.map((one, i) => [String(i), one]);
  expect(firstNonFinite(named(values(-3e38, -3e38, 1), values(0)))).toBeUndefined();
  expect(firstNonFinite(named(values(1), values(2, Number.NaN), values(Number.NaN)))?.name).toBe('1');
  expect(firstNonFinite(named(values(1, Number.NEGATIVE_INFINITY)))).toEqual({ name: '0', value: Infinity });
  expect(firstNonFinite(named(values(1).to('float16').mul(1e30)))?.name).toBe('0');
});

it('stops where the loss is finite and a gradient is not, naming both', () => {
  const weight = values(0, 4);
  weight.requiresGrad = true;
  // The loss is 2, and the slope of a square root at 0 is infinite.
  const loss = weight.sqrt().sum();
  backward(loss);
  expect(loss.item()).toBe(2);
  const parameters = new Map([['w', weight]]);
  const norm = gradNorm(gradientsOf([weight]));
  expect(() => new NanGuard(0, nameOf).accepts(loss, norm, details(parameters))).toThrow(
    'but the gradient of w has Infinity in step 12; timesteps 31, 870; rows 3 (3.png), 5 (5.png). The weights were left',
  );
  // Where a loss scale may have made it infinite, it is not for the guard.
  expect(new NanGuard(0, nameOf).accepts(loss, null, details(parameters))).toBe(true);
});

it('skips as many as asked for, and says which of how many', () => {
  const messages: string[] = [];
  const guard = new NanGuard(1, nameOf, { onMessage: (text) => messages.push(text) });
  const nan = scalar(Number.NaN);
  expect(guard.accepts(scalar(1), scalar(1), details())).toBe(true);
  expect(guard.accepts(nan, null, details())).toBe(false);
  expect(messages).toEqual([
    expect.stringContaining('Skipped a batch (1 of at most 1): the loss is NaN in step 12'),
  ]);
  expect(() => guard.accepts(nan, scalar(1), details())).toThrow(TrainingError);
});

it('on a GPU looks at a step after the next one was given to it, or when asked', () => {
  const infinite = scalar(Number.POSITIVE_INFINITY);
  const fault =
    /the loss is Infinity in step 12; timesteps 31, 870; rows 3 \(3\.png\), 5 \(5\.png\)\. No checkpoint/;
  const guard = new NanGuard(0, nameOf, { device: 'cuda' });
  expect(guard.accepts(scalar(1), scalar(1), details())).toBe(true);
  expect(guard.accepts(infinite, scalar(1), details())).toBe(true);
  expect(() => guard.accepts(scalar(1), scalar(1), { ...details(), step: 13 })).toThrow(fault);

  const other = new NanGuard(0, nameOf, { device: 'cuda' });
  other.checkLastStep();
  expect(other.accepts(infinite, null, details())).toBe(true);
  expect(() => other.checkLastStep()).toThrow(fault);
  other.checkLastStep();

  // One that is to be skipped must not reach the weights.
  const skipping = new NanGuard(1, nameOf, { device: 'cuda' });
  expect(skipping.accepts(infinite, scalar(1), details())).toBe(false);
});
