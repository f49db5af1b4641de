/** @file Tests the addon's part of resampling; src/images compares the pixels with Pillow's. */
import { describe, expect, it } from 'vitest';
import { type FixedPointFilter, resampleBytes, resampleBytesAsync } from './index.js';

const ONE = 1 << 22;
const filter = (first: number[], count: number[], weights: number[]): FixedPointFilter => ({
  first: Int32Array.from(first),
  count: Int32Array.from(count),
  weights: Int32Array.from(weights),
});

const rgb = Uint8Array.of(10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120); // 2 × 2
const both = filter([0, 1], [1, 1], [ONE, ONE]);

describe('resampleBytes', () => {
  it('sums weighted pixels along rows, then along columns', () => {
    expect(resampleBytes(rgb, 2, both, both)).toEqual(rgb);
    expect([...resampleBytes(rgb, 2, filter([0], [2], [ONE / 4, (3 * ONE) / 4]), both)]).toEqual([
      // 32.5 is rounded up, like all halves.
      33, 43, 53, 93, 103, 113,
    ]);
    expect([...resampleBytes(rgb, 2, both, filter([0], [2], [ONE / 2, ONE / 2]))]).toEqual([
      40, 50, 60, 70, 80, 90,
    ]);
  });

  it('gives the same in other threads, many at a time, with arrays that are not referenced elsewhere', async () => {
    const random = (seed: number): Uint8Array =>
      Uint8Array.from({ length: 3 * 200 * 100 }, (_, i) => Math.imul(i + 1, 2654435761 + seed) >>> 24);
    const columns = filter([0, 3, 150], [2, 3, 50], Array(150).fill(ONE / 64));
    const rows = filter([5, 0], [60, 1], Array(120).fill(ONE / 60));
    const seeds = Array.from({ length: 32 }, (_, i) => i);
    const all = await Promise.all(seeds.map((seed) => resampleBytesAsync(random(seed), 200, columns, rows)));
    for (const seed of seeds) expect(all[seed]).toEqual(resampleBytes(random(seed), 200, columns, rows));
    expect(new Set(all[0]).size).toBeGreaterThan(2);
  });

  it('clips to bytes after either pass', () => {
    const sharp = filter([0], [2], [2 * ONE, -ONE]);
    const white = Uint8Array.of(255, 255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255);
    // Along rows 510 and -255 become 255 and 0; along columns 2·255 - 0 becomes 255.
    expect([...resampleBytes(white, 2, sharp, sharp)]).toEqual([255, 255, 255]);
  });

  it.each<[string, FixedPointFilter, FixedPointFilter]>([
    ['a column outside the image', filter([1], [2], [ONE, 0]), both],
    ['a row outside the image', both, filter([2], [1], [ONE])],
    ['a negative position', filter([-1], [1], [ONE]), both],
    ['more taps than weights', filter([0], [2], [ONE]), both],
    ['missing weights', filter([0, 1], [1, 1], [ONE]), both],
  ])('refuses %s', async (_, columns, rows) => {
    expect(() => resampleBytes(rgb, 2, columns, rows)).toThrow(/coefficients/);
    await expect(resampleBytesAsync(rgb, 2, columns, rows)).rejects.toThrow(/coefficients/);
  });

  it('refuses bytes that are not whole rows', () => {
    expect(() => resampleBytes(rgb.subarray(1), 2, both, both)).toThrow(/rows of 2 pixels/);
  });
});
