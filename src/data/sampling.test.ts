import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { captionFor, dropFor, flipFor, shuffledBatches, shuffledIndices } from './sampling.js';

describe('shuffledIndices', () => {
  it('gives the order that an independent implementation of the documented generator gives', () => {
    expect([...shuffledIndices(42, 0, 12)]).toEqual([3, 1, 2, 10, 9, 11, 4, 7, 0, 8, 6, 5]);
    expect([...shuffledIndices(42, 1, 12)]).toEqual([4, 7, 5, 2, 10, 8, 0, 11, 9, 3, 1, 6]);
    expect([...shuffledIndices(2 ** 40 + 42, 0, 12)]).toEqual([11, 9, 4, 6, 5, 1, 10, 0, 2, 7, 8, 3]);
  });

  it('is a permutation, and a function of its arguments only', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(1000), fc.nat(200), (seed, epoch, n) => {
        const order = shuffledIndices(seed, epoch, n);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
        expect(shuffledIndices(seed, epoch, n)).toEqual(order);
      }),
    );
  });

  it('puts every row at every place equally often', () => {
    const counts = new Float64Array(36);
    const epochs = 6000;
    for (let epoch = 0; epoch < epochs; epoch++) {
      shuffledIndices(7, epoch, 6).forEach((row, place) => {
        counts[row * 6 + place]! += 1;
      });
    }
    // Chi-square with 25 degrees of freedom: 52.6 is exceeded once in a thousand.
    const expected = epochs / 6;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeLessThan(52.6);
  });
});

describe('dropFor', () => {
  it('drops the rows that an independent implementation drops', () => {
    const rows = Array.from({ length: 60 }, (_, row) => ({ row, ...dropFor(42, 3, row) }));
    const indices = (image: boolean, text: boolean) =>
      rows.filter((r) => r.dropImage === image && r.dropText === text).map((r) => r.row);
    expect(indices(true, false)).toEqual([0, 45, 59]);
    expect(indices(false, true)).toEqual([7, 21, 25, 48]);
    expect(indices(true, true)).toEqual([38]);
  });

  it('drops one row in twenty each way, by seed, by epoch and by row', () => {
    const n = 40_000;
    const ways = [
      (i: number) => dropFor(i, 0, 0),
      (i: number) => dropFor(0, i, 0),
      (i: number) => dropFor(0, 0, i),
    ];
    for (const way of ways) {
      const counts = { image: 0, text: 0, both: 0 };
      for (let i = 0; i < n; i++) {
        const { dropImage, dropText } = way(i);
        if (dropImage && dropText) counts.both++;
        else if (dropImage) counts.image++;
        else if (dropText) counts.text++;
      }
      // 5 % of 40 000 with a standard deviation of 44: five deviations either way.
      for (const count of Object.values(counts)) expect(Math.abs(count - 2000)).toBeLessThan(220);
    }
  });
});

describe('captionFor', () => {
  it('draws every caption equally often, by seed, by epoch and by row; one alone always', () => {
    const ways = [
      (i: number) => captionFor(i, 0, 0, 4),
      (i: number) => captionFor(0, i, 0, 4),
      (i: number) => captionFor(0, 0, i, 4),
    ];
    for (const way of ways) {
      const counts = [0, 0, 0, 0];
      for (let i = 0; i < 40_000; i++) counts[way(i)]! += 1;
      // A quarter with a standard deviation of 87: five deviations either way.
      for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(435);
    }
    for (let i = 0; i < 100; i++) expect(captionFor(i, i, i, 1)).toBe(0);
  });

  it('does not go with the drop', () => {
    let together = 0;
    for (let row = 0; row < 40_000; row++)
      if (captionFor(0, 0, row, 2) === 0 && dropFor(0, 0, row).dropImage) together++;
    // Half of a tenth, with a standard deviation of 44.
    expect(Math.abs(together - 2000)).toBeLessThan(220);
  });
});

describe('flipFor', () => {
  it('mirrors every second row, by seed, by epoch and by row', () => {
    for (const flip of [
      (i: number) => flipFor(i, 0, 0),
      (i: number) => flipFor(0, i, 0),
      (i: number) => flipFor(0, 0, i),
    ]) {
      let flips = 0;
      for (let i = 0; i < 40_000; i++) flips += Number(flip(i));
      // Half with a standard deviation of 100: five deviations either way.
      expect(Math.abs(flips - 20_000)).toBeLessThan(500);
    }
  });

  it('does not go with the drop or the caption', () => {
    const together = { drop: 0, caption: 0 };
    for (let row = 0; row < 40_000; row++) {
      if (!flipFor(0, 0, row)) continue;
      together.drop += Number(dropFor(0, 0, row).dropImage);
      together.caption += Number(captionFor(0, 0, row, 2) === 0);
    }
    // Half of a tenth with a standard deviation of 44, and a quarter with one of 87.
    expect(Math.abs(together.drop - 2000)).toBeLessThan(220);
    expect(Math.abs(together.caption - 10_000)).toBeLessThan(435);
  });
});

it('shuffledBatches gives another order than the rows have', () => {
  expect([...shuffledBatches(42, 0, 12)].sort((a, b) => a - b)).toEqual([...Array(12).keys()]);
  expect(shuffledBatches(42, 0, 12)).not.toEqual(shuffledIndices(42, 0, 12));
});
