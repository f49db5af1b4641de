/** @file 95 % confidence intervals: of a mean by Student's t, of a share by Wilson's score. */

/** A mean, and its 95 % confidence interval. */
export interface Interval {
  mean: number;
  low: number;
  high: number;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Returns the mean of values and its 95 % interval by Student's t. @param values two or more */
export function interval(values: readonly number[]): Interval {
  const n = values.length;
  const average = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - average) ** 2, 0) / (n - 1);
  const half = studentT975(n - 1) * Math.sqrt(variance / n);
  return { mean: average, low: average - half, high: average + half };
}

/**
 * Returns a share and its 95 % interval (Wilson, Probable inference, JASA 22, 1927), which has a width even where all or
 * none succeed.
 * @param share of `trials` that succeed, 0 … 1
 */
export function shareInterval(share: number, trials: number): Interval {
  const z2 = NORMAL_975 ** 2;
  const centre = (share + z2 / (2 * trials)) / (1 + z2 / trials);
  const half =
    (NORMAL_975 / (1 + z2 / trials)) * Math.sqrt((share * (1 - share)) / trials + z2 / (4 * trials * trials));
  return { mean: share, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/** The 97.5 % quantile of the normal distribution. */
const NORMAL_975 = 1.959964;

/**
 * Returns the 97.5 % quantile of Student's t distribution: exact for 1 and 2 degrees of freedom, for more within 0.4 %
 * (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
 */
export function studentT975(freedom: number): number {
  if (freedom === 1) return 12.706205;
  if (freedom === 2) return 4.302653;
  const z = NORMAL_975;
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return terms.reduce((sum, term, power) => sum + term / freedom ** power, 0);
}
