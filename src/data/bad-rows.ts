/** @file Rows that cannot be used: how many are skipped before a run stops, and how messages list them. */

/** A row that was left out. */
export interface BadRow {
  /** The image's name: a path, or a member of a tar or Parquet file. */
  readonly file: string;
  readonly reason: string;
}

/** Bad rows that are always skipped, and the share of a dataset above which a run stops. */
const ALWAYS_SKIPPED = 8;
const MAX_BAD_SHARE = 0.1;

/** Returns how many bad rows of a dataset are skipped; with one more the run stops. */
export function maxBadRows(rows: number): number {
  return Math.max(ALWAYS_SKIPPED, Math.floor(MAX_BAD_SHARE * rows));
}

/** How many rows a message names. */
const SHOWN = 5;

/** Returns the first of the lines, and how many more there are. */
export function listed(lines: readonly string[], count = lines.length): string {
  const shown = lines.slice(0, SHOWN).map((line) => `  ${line}`);
  return [...shown, ...(count > shown.length ? [`  and ${count - shown.length} more`] : [])].join('\n');
}
