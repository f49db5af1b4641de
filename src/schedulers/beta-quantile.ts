/** @file Quantiles of the symmetric beta distribution, by which noise levels can be spaced (`use_beta_sigmas`). */

/** Returns x in 0 … 1 below which lies that share of the beta distribution with both parameters `a` < 1. */
export function betaQuantile(share: number, a: number): number {
  if (share <= 0) return 0;
  if (share >= 1) return 1;
  // The distribution is its own mirror image, and the series below is for the lower half.
  if (share > 0.5) return 1 - betaQuantile(1 - share, a);
  const target = share * 2 * integral(0.5, a);
  let [low, high] = [0, 0.5];
  while (true) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) return middle;
    if (integral(middle, a) < target) low = middle;
    else high = middle;
  }
}

/** ∫ tᵃ⁻¹(1−t)ᵃ⁻¹ dt from 0 to x ≤ ½, by its power series: the terms fall at least as fast as 2⁻ⁿ. */
function integral(x: number, a: number): number {
  let [sum, factor] = [1 / a, 1];
  for (let n = 1; factor > 1e-18; n++) {
    factor *= ((n - a) / n) * x;
    sum += factor / (a + n);
  }
  return x ** a * sum;
}
