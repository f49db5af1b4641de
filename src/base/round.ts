/** @file Rounding as Python and NumPy do it. */

/** Returns the nearest whole number; halves go to the even neighbour, as in Python's `round` and NumPy's `rint`. */
export function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
