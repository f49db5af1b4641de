/** @file How many rows that cannot be used are skipped before a run stops. */

/** Bad rows that are always skipped, and the share of a dataset above which a run stops. */
const ALWAYS_SKIPPED = 8;
const MAX_BAD_SHARE = 0.1;

/** Returns how many bad rows of a dataset are skipped; with one more the run stops. */
export function maxBadRows(rows: number): number {
  return Math.max(ALWAYS_SKIPPED, Math.floor(MAX_BAD_SHARE * rows));
}
