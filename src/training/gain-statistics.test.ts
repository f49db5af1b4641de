import { describe, expect, it } from 'vitest';
import { gainsOf, interval, studentT975 } from './gain-statistics.js';

// Abramowitz and Stegun, table 26.10.
it.each([
  [1, 12.706],
  [2, 4.303],
  [3, 3.182],
  [5, 2.571],
  [10, 2.228],
  [31, 2.04],
  [120, 1.98],
])('the 97.5 %% quantile of t with %d degrees of freedom', (freedom, expected) => {
  expect(studentT975(freedom) / expected).toBeCloseTo(1, 2);
});

it('the interval of a mean', () => {
  // Mean 3, standard deviation sqrt(2.5), t of 4 degrees 2.776.
  const { mean, low, high } = interval([1, 2, 3, 4, 5]);
  expect(mean).toBe(3);
  expect(low).toBeCloseTo(3 - 2.776 * Math.sqrt(2.5 / 5), 2);
  expect(high - mean).toBeCloseTo(mean - low, 12);
});

describe('gains', () => {
  const right = [0.5, 0.9, 0.1, 0.4];
  const more = (by: number) => right.map((loss, i) => loss + by + 0.001 * (i % 2));

  it('are differences within rows, whose own spread does not count', () => {
    const gains = gainsOf({ right, shuffled: more(0.03), none: more(0.02), base: more(0.01) });
    expect(gains.over_base.mean).toBeCloseTo(0.0105, 10);
    expect(gains.over_base.low).toBeGreaterThan(0.009);
    expect(gains.gain).toEqual(gains.over_base);
    expect(gains.loss.none - gains.loss.right).toBeCloseTo(gains.over_none.mean, 10);
  });

  it.each(['shuffled', 'none', 'base'] as const)(
    'the gain is not above 0 where the loss %s is as low',
    (name) => {
      const losses = { right, shuffled: more(0.03), none: more(0.02), base: more(0.01), [name]: right };
      expect(gainsOf(losses).gain).toEqual({ mean: 0, low: 0, high: 0 });
    },
  );
});
