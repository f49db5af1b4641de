/** @file Rows that cannot be used: how many are borne, and how messages list them. */

/** A row that was left out. */
export interface BadRow {
  /** The image's name: a path, or a member of a tar or Parquet file. */
  readonly file: string;
  readonly reason: string;
}

/** Bad rows that are always borne, and the share of the dataset beyond which a run stops. */
const BAD_ROWS_BORNE = 8;
const BAD_SHARE_BORNE = 0.1;

/** How many bad rows of a dataset are skipped; with one more the run stops. */
export function maxBadRows(rows: number): number {
  return Math.max(BAD_ROWS_BORNE, Math.floor(BAD_SHARE_BORNE * rows));
}

/** How many a message names. */
const SHOWN = 5;

/** The first of them, each on a line, and how many more there are. */
export function listed(lines: readonly string[], count = lines.length): string {
  const shown = lines.slice(0, SHOWN).map((line) => `  ${line}`);
  return [...shown, ...(count > shown.length ? [`  and ${count - shown.length} more`] : [])].join('\n');
}
