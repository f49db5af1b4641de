import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DatasetError } from '../base/errors.js';
import type { Dataset, DatasetRow } from './dataset.js';
import { splitDataset } from './split.js';

function datasetOf(names: readonly string[]): Dataset {
  const rows = names.map((name): DatasetRow => {
    const image = { name, read: () => Promise.reject(new Error('not read')) };
    return { image, promptImage: image, captions: [''] };
  });
  return { rows, description: '', fingerprint: names.join(), incomplete: [], leftOut: [] };
}
const names = (rows: Iterable<DatasetRow>): string[] => [...rows].map(({ image }) => image.name);
const hundred = Array.from({ length: 100 }, (_, i) => `/data/${i % 10}/${i}.png`);

it('every row is trained on or held out, in the order of the dataset', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 99 }), fc.nat(), (count, seed) => {
      const { train, heldOut } = splitDataset(datasetOf(hundred), count, seed);
      expect(heldOut.length).toBe(count);
      const held = new Set(names(heldOut));
      expect(names(train.rows)).toEqual(hundred.filter((name) => !held.has(name)));
    }),
  );
});

it('depends on names and seed only: not on the order or the folder, and little on new rows', () => {
  const held = (list: readonly string[], seed = 3) =>
    new Set(names(splitDataset(datasetOf(list), 20, seed).heldOut));
  expect(held(hundred.toReversed())).toEqual(held(hundred));
  const moved = hundred.map((name) => name.replace('/data/', '/elsewhere/a/'));
  expect([...held(moved)].map((name) => name.replace('/elsewhere/a/', '/data/')).sort()).toEqual(
    [...held(hundred)].sort(),
  );
  expect(held(hundred, 4)).not.toEqual(held(hundred));
  const more = held([...hundred, '/data/3/new.png', '/data/5/other.png']);
  expect([...more].filter((name) => held(hundred).has(name)).length).toBeGreaterThanOrEqual(18);
});

it('counts the rows that are left of each shard', () => {
  const { train, heldOut } = splitDataset({ ...datasetOf(hundred), shards: [10, 0, 60, 30] }, 30, 7);
  const held = new Set(names(heldOut));
  const left = (from: number, to: number) => hundred.slice(from, to).filter((name) => !held.has(name)).length;
  expect(train.shards).toEqual([left(0, 10), 0, left(10, 70), left(70, 100)]);
});

it('is another dataset for a resumed run, and refuses to hold out all', () => {
  const whole = datasetOf(hundred);
  const { train } = splitDataset(whole, 5, 0);
  expect(train.fingerprint).not.toBe(whole.fingerprint);
  expect(splitDataset(whole, 6, 0).train.fingerprint).not.toBe(train.fingerprint);
  expect(() => splitDataset(whole, 100, 0)).toThrow(DatasetError);
});
