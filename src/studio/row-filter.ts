/** @file Finds the rows of a dataset that a filter shows. It gives way to other work now and then, since there may be millions. */
import { setImmediate } from 'node:timers/promises';
import type { DatasetRow, Rows } from '../data/dataset.js';
import type { RowFilter } from './dataset-messages.js';

/** Rows that are looked at in one go: some milliseconds. */
const AT_ONCE = 4096;

/** Whether a row is shown; undefined for filters that compare rows with each other, or that need a check. */
const ofOneRow: Readonly<Partial<Record<RowFilter, (row: DatasetRow) => boolean>>> = {
  'no caption': ({ captions }) => captions.every((caption) => caption.trim() === ''),
  'several captions': ({ captions }) => captions.length > 1,
  'another reference': ({ image, promptImage }) => promptImage !== image,
  'no mask': ({ mask }) => mask === undefined,
  grouped: ({ group }) => group !== undefined,
};

/** What rows have in common, and whether those are shown that have it alone. Rows without it are not shown. */
const ofSeveralRows: Readonly<
  Partial<Record<RowFilter, { keyOf: (row: DatasetRow) => string | undefined; isAlone: boolean }>>
> = {
  'same caption': { keyOf: ({ captions }) => captions.join('\n').trim() || undefined, isAlone: false },
  'same file': { keyOf: ({ image }) => image.name, isAlone: false },
  'alone in its group': { keyOf: ({ group }) => group, isAlone: true },
};

/**
 * Returns the indices of the rows that a filter and a text show, ascending.
 * @param among the rows that a check has found; undefined: all
 */
export async function findRows(
  rows: Rows,
  { filter, text }: { filter: RowFilter; text: string },
  among: Uint32Array | undefined,
): Promise<Uint32Array> {
  const isShown = ofOneRow[filter] ?? (() => true);
  const shared = ofSeveralRows[filter];
  const keys = shared === undefined ? undefined : await SharedKeys.of(rows, shared.keyOf);
  const wanted = text.toLowerCase();
  const found: number[] = [];
  await forEachRow(among ?? rows.length, (index) => {
    if (keys !== undefined && keys.isAlone(index) !== shared?.isAlone) return;
    const row = rows.at(index);
    // A check was of other rows where the dataset has changed since.
    if (row === undefined || !isShown(row)) return;
    if (wanted === '' || [row.image.name, ...row.captions].some((one) => one.toLowerCase().includes(wanted)))
      found.push(index);
  });
  return Uint32Array.from(found);
}

/** Which rows share a key with another, in 16 bytes a row: only hashes of the keys are kept. */
class SharedKeys {
  /** By row; NaN: it has no key. */
  readonly #hashes: Float64Array;
  readonly #sorted: Float64Array;

  private constructor(hashes: Float64Array) {
    this.#hashes = hashes;
    // NaN comes last.
    this.#sorted = hashes.slice().sort();
  }

  static async of(rows: Rows, keyOf: (row: DatasetRow) => string | undefined): Promise<SharedKeys> {
    const hashes = new Float64Array(rows.length);
    await forEachRow(rows.length, (index) => {
      const key = keyOf(rows.at(index) as DatasetRow);
      hashes[index] = key === undefined ? Number.NaN : hash53(key);
    });
    return new SharedKeys(hashes);
  }

  /** Whether no other row has the row's key; undefined where it has none. */
  isAlone(index: number): boolean | undefined {
    const hash = this.#hashes[index] as number;
    if (Number.isNaN(hash)) return undefined;
    const sorted = this.#sorted;
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return sorted[low + 1] !== hash;
  }
}

/** Returns a hash of 53 bits: of a million keys, two are taken for one with a chance of 1 in 18,000. */
function hash53(text: string): number {
  let [one, other] = [0x9e3779b9, 0x85ebca6b];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    one = Math.imul(one ^ code, 0x01000193);
    other = Math.imul(other + code, 0x9e3779b1) ^ (other >>> 15);
  }
  // The low bits of a product depend on the low bits of its factors alone.
  one ^= one >>> 16;
  other = Math.imul(other ^ (other >>> 13), 0xc2b2ae35) ^ one;
  return (other & 0x1fffff) * 2 ** 32 + (one >>> 0);
}

async function forEachRow(which: number | Uint32Array, visit: (index: number) => void): Promise<void> {
  const length = typeof which === 'number' ? which : which.length;
  for (let i = 0; i < length; i++) {
    visit(typeof which === 'number' ? i : (which[i] as number));
    if (i % AT_ONCE === AT_ONCE - 1) await setImmediate();
  }
}
