import { expect, it } from 'vitest';
import { interval, shareInterval, studentT975 } from './statistics.js';

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

// Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I.
it.each([
  [81, 263, 0.2553, 0.3662],
  [15, 148, 0.0624, 0.1605],
  [0, 20, 0, 0.1611],
  [1, 29, 0.0061, 0.1718],
])('the interval of a share, %d of %d', (successes, trials, low, high) => {
  const { mean, ...ends } = shareInterval(successes / trials, trials);
  expect(mean).toBe(successes / trials);
  expect(ends.low).toBeCloseTo(low, 4);
  expect(ends.high).toBeCloseTo(high, 4);
});
