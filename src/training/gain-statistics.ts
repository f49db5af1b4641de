/** @file The statistics of the gain: mean differences of losses, with their intervals over rows. */

import type { Gains, Interval } from '../base/run-context.js';

/** What a loss is measured with: the row's own image, another row's, none, and the base model without the adapter. */
export const conditions = ['right', 'shuffled', 'none', 'base'] as const;
export type Condition = (typeof conditions)[number];

/** Returns the gains of losses. @param losses of the same rows, two or more, for each condition */
export function gainsOf(losses: Record<Condition, readonly number[]>): Gains {
  const over = (condition: Condition): Interval =>
    interval(losses[condition].map((loss, row) => loss - (losses.right[row] as number)));
  const [over_none, over_base, specificity] = [over('none'), over('base'), over('shuffled')];
  const loss = Object.fromEntries(
    conditions.map((condition) => [condition, mean(losses[condition])]),
  ) as Record<Condition, number>;
  const gain = [over_none, over_base, specificity].reduce((a, b) => (b.low < a.low ? b : a));
  return { loss, over_none, over_base, specificity, gain };
}

/** Returns the mean of values and its 95 % interval by Student's t. @param values two or more */
export function interval(values: readonly number[]): Interval {
  const n = values.length;
  const average = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - average) ** 2, 0) / (n - 1);
  const half = studentT975(n - 1) * Math.sqrt(variance / n);
  return { mean: average, low: average - half, high: average + half };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Returns the 97.5 % quantile of Student's t distribution: exact for 1 and 2 degrees of freedom, for more within 0.4 %
 * (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
 */
export function studentT975(freedom: number): number {
  if (freedom === 1) return 12.706205;
  if (freedom === 2) return 4.302653;
  const z = 1.959964;
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return terms.reduce((sum, term, power) => sum + term / freedom ** power, 0);
}
