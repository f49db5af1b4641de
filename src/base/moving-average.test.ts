import { expect, it } from 'vitest';
import { MovingAverage } from './moving-average.js';

it('is a mean of the values, the newest weighted most', () => {
  const average = new MovingAverage(0.5);
  expect(average.value).toBeNaN();
  average.add(4);
  expect(average.value).toBe(4);
  average.add(1);
  // Weights 1/4 and 1/2 of 3/4.
  expect(average.value).toBe((4 * 0.25 + 1 * 0.5) / 0.75);
  for (let i = 0; i < 60; i++) average.add(7);
  expect(average.value).toBeCloseTo(7, 12);
});

it('ignores values that are not finite', () => {
  const average = new MovingAverage(0.9);
  for (const value of [Number.NaN, 2, Number.POSITIVE_INFINITY]) average.add(value);
  expect(average.value).toBeCloseTo(2, 12);
});
