import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/golden.js';
import { CheckpointError } from '../base/errors.js';
import { Generator, noGrad, randn, type Tensor, tensor } from '../torch/index.js';
import { EMA, emaDecay } from './ema.js';

function parameters(): Map<string, Tensor> {
  const generator = new Generator('cpu', 2);
  return new Map([[2, 3], [4]].map((shape, i) => [`p${i}`, randn(shape, { generator })]));
}

describe('the decay', () => {
  it('is 0, then (1 + n) / (10 + n), up to the maximum', () => {
    expect([1, 2, 3, 4, 100].map((update) => emaDecay(update, 0.9))).toEqual([
      0,
      2 / 11,
      3 / 12,
      4 / 13,
      0.9,
    ]);
    expect(emaDecay(1_000_000, 0.9999)).toBe(0.9999);
    expect(emaDecay(89_990, 0.9999)).toBeLessThan(0.9999);
  });
});

describe('EMA', () => {
  it('computes the recursion, compared with float64', () => {
    const x = tensor([0], [1]);
    x.requiresGrad = true;
    const ema = new EMA(new Map([['x', x]]), 0.3);
    let average = 0;
    [4, -2, 7, 1, 5].forEach((value, i) => {
      using _ = noGrad();
      x.copy_(tensor([value], [1]));
      ema.step(i + 1);
      const decay = i === 0 ? 0 : Math.min(0.3, (1 + i) / (10 + i));
      average = decay * average + (1 - decay) * value;
      expect(ema.stateDict().get('x')?.item()).toBeCloseTo(average, 6);
    });
    expect(average).toBeCloseTo(4.162045, 5);
  });

  it('keeps copies, which do not change with the parameters', () => {
    const values = parameters();
    const ema = new EMA(values, 0.9);
    const initial = (values.get('p0') as Tensor).clone();
    (values.get('p0') as Tensor).zero_();
    expectSameBytes(ema.stateDict().get('p0') as Tensor, initial);
    expect(ema.stateDict().get('p0')?.requiresGrad).toBe(false);
  });

  it('resumes from a saved state bit-exactly, and refuses one of other parameters', () => {
    const values = parameters();
    const [whole, parts] = [new EMA(values, 0.9), new EMA(values, 0.9)];
    for (const value of values.values()) value.mul_(3);
    whole.step(1);
    const saved = new Map(Array.from(whole.stateDict(), ([name, average]) => [name, average.clone()]));
    parts.loadStateDict(saved, 'here');
    for (const value of values.values()) value.mul_(-0.7);
    for (const ema of [whole, parts]) ema.step(2);
    for (const [name, average] of whole.stateDict())
      expectSameBytes(parts.stateDict().get(name) as Tensor, average);

    saved.delete('p1');
    expect(() => parts.loadStateDict(saved, 'there')).toThrow(CheckpointError);
    expect(() => parts.loadStateDict(saved, 'there')).toThrow(/average in there .*p1: expected \[4\]/);
  });
});
