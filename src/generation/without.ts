/** @file Objects without some of their properties. */

/** Returns the other properties of an object. */
export function without<T extends object, K extends string>(object: T, keys: readonly K[]): Omit<T, K> {
  const others = Object.entries(object).filter(([key]) => !keys.includes(key as K));
  return Object.fromEntries(others) as Omit<T, K>;
}
