/**
 * @file What a row has besides its image and captions, where a run asks for it: its group, the thing that it shows, and its
 * mask. Every reader of datasets takes them from here.
 */
import { posix, sep } from 'node:path';
import { ConfigError } from '../base/errors.js';

/** The fields of rows that a run uses. */
export interface RowFields {
  /** What rows of a group share: `folder`, `prefix`, or the name of a column. Default: rows have no groups. */
  readonly groupBy?: string | undefined;
  /** Whether masks are used. Default: false. */
  readonly masks?: boolean | undefined;
}

/** The fields of a row as its dataset keeps them. An absent field has no key, so that it is in no fingerprint. */
export interface Extras<Mask> {
  group?: string;
  mask?: Mask;
}

/** Ways to group rows by the names of their images. */
const byName: Readonly<Record<string, (name: string) => string>> = {
  folder: (name) => posix.dirname(name),
  // dogs/rex_012.jpg and dogs/rex_013.jpg are of dogs/rex.
  prefix: (name) => stemOf(name).replace(/[-_][^-_/]*$/, ''),
};

/** Returns the column that groups rows; undefined where names do, or nothing. */
export function groupColumn({ groupBy }: RowFields): string | undefined {
  return groupBy === undefined || groupBy in byName ? undefined : groupBy;
}

/**
 * Returns the group of a row as a field to spread; an empty object where the row has none.
 * @param name the path of its image from the dataset's root
 * @param value the value of the column that groups rows
 * @throws Error where the value is neither text nor a whole number
 */
export function groupField({ groupBy }: RowFields, name: string, value: unknown): { group?: string } {
  if (groupBy === undefined) return {};
  const ofName = byName[groupBy];
  if (ofName !== undefined) return { group: ofName(name.split(sep).join('/')) };
  if (value === undefined || value === null || value === '') return {};
  if (typeof value !== 'string' && typeof value !== 'bigint' && !Number.isSafeInteger(value))
    throw new Error(`"${groupBy}" is not a text or a whole number`);
  return { group: String(value) };
}

/**
 * Refuses a way of grouping that a format does not have.
 * @param format a name for messages
 * @param ways the ways that it has
 * @throws ConfigError
 */
export function assertGroupBy(
  { groupBy }: RowFields,
  format: string,
  ways: readonly ('column' | 'name')[],
): void {
  if (groupBy === undefined) return;
  const way = groupBy in byName ? 'name' : 'column';
  if (ways.includes(way)) return;
  throw new ConfigError(
    way === 'column'
      ? `--group-by (groupBy) is ${groupBy}, but ${format} has no columns; give folder or prefix, which take the group from the name of the image`
      : `--group-by (groupBy) is ${groupBy}, but the rows of ${format} have no file names; give the name of a column`,
  );
}

/** Returns what a dataset keeps of a row: its fields, if it has any, then its captions. */
export function packExtras<Mask>(
  extras: Extras<Mask>,
  captions: readonly string[],
): (Extras<Mask> | string)[] {
  return Object.keys(extras).length === 0 ? [...captions] : [extras, ...captions];
}

/** Returns the fields and the captions of `packExtras`. */
export function unpackExtras<Mask>(packed: readonly (Extras<Mask> | string)[]): {
  extras: Extras<Mask>;
  captions: string[];
} {
  const [first] = packed;
  const hasExtras = typeof first === 'object';
  return {
    extras: hasExtras ? first : {},
    captions: (hasExtras ? packed.slice(1) : packed) as string[],
  };
}

function stemOf(name: string): string {
  return name.slice(0, name.length - posix.extname(name).length);
}
