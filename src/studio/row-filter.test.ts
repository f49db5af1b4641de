import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { DatasetRow } from '../data/dataset.js';
import { type RowFilter, rowFilters } from './dataset-messages.js';
import { findRows } from './row-filter.js';

const source = (name: string) => ({ name, read: async () => new Uint8Array() });
const rowArbitrary = fc
  .record({
    name: fc.constantFrom('a.png', 'b.png', 'c.png'),
    captions: fc.array(fc.constantFrom('', ' ', 'One', 'two', 'three'), { maxLength: 2 }),
    group: fc.option(fc.constantFrom('x', 'y', 'z'), { nil: undefined }),
    isReference: fc.boolean(),
    hasMask: fc.boolean(),
  })
  .map(({ name, captions, group, isReference, hasMask }): DatasetRow => {
    const image = source(name);
    const mask = hasMask ? source('mask.png') : undefined;
    return { image, promptImage: isReference ? source('r.png') : image, captions, group, mask };
  });

/** What each filter means, in words of its own. */
function isShown(filter: RowFilter, row: DatasetRow, rows: readonly DatasetRow[]): boolean {
  const sharing = (keyOf: (one: DatasetRow) => string | undefined): number =>
    keyOf(row) === undefined ? 0 : rows.filter((one) => keyOf(one) === keyOf(row)).length;
  const text = ({ captions }: DatasetRow): string | undefined => captions.join('\n').trim() || undefined;
  const meanings: Partial<Record<RowFilter, boolean>> = {
    'no caption': text(row) === undefined,
    'several captions': row.captions.length > 1,
    'same caption': sharing(text) > 1,
    'another reference': row.promptImage.name === 'r.png',
    'same file': sharing(({ image }) => image.name) > 1,
    'no mask': row.mask === undefined,
    grouped: row.group !== undefined,
    'alone in its group': sharing(({ group }) => group) === 1,
  };
  return meanings[filter] ?? true;
}

it('finds the rows that each filter and a text mean, also among those of a check', async () => {
  const cases = fc.record({
    rows: fc.array(rowArbitrary, { maxLength: 12 }),
    filter: fc.constantFrom(...rowFilters),
    text: fc.constantFrom('', 'ONE', 'a.png', 'nothing'),
    among: fc.option(fc.uniqueArray(fc.nat(14)), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ rows, filter, text, among }) => {
      const checked = among === undefined ? undefined : Uint32Array.from(among.sort((a, b) => a - b));
      const hasText = ({ image, captions }: DatasetRow): boolean =>
        [image.name, ...captions].join('\n').toLowerCase().includes(text.toLowerCase());
      const expected = [...rows.keys()].filter((i) => {
        const row = rows[i] as DatasetRow;
        return (among?.includes(i) ?? true) && hasText(row) && isShown(filter, row, rows);
      });
      expect([...(await findRows(rows, { filter, text }, checked))]).toEqual(expected);
    }),
  );
});
