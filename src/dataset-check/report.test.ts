import { expect, it } from 'vitest';
import { spreadOf } from './report.js';

it('gives the least, the middle and the greatest', () => {
  expect(spreadOf([])).toBeNull();
  expect(spreadOf([7])).toEqual({ min: 7, median: 7, max: 7 });
  expect(spreadOf([100, 9, 20])).toEqual({ min: 9, median: 20, max: 100 });
  expect(spreadOf([100, 9, 20, 21])).toEqual({ min: 9, median: 20.5, max: 100 });
});
