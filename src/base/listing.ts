/** @file Counts and lists in messages. */

/** A row of a dataset that was left out. */
export interface BadRow {
  /** The image's name: a path, or a member of a tar or Parquet file. */
  readonly file: string;
  readonly reason: string;
}

/** Returns a count with its noun: '1 row', '12,000 rows'. */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** How many lines a message shows. */
const MAX_LINES = 5;

/** Returns the first lines, indented, and how many of all `count` lines are not shown. */
export function listed(lines: readonly string[], count = lines.length): string {
  const shown = lines.slice(0, MAX_LINES).map((line) => `  ${line}`);
  return [...shown, ...(count > shown.length ? [`  and ${count - shown.length} more`] : [])].join('\n');
}
