import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Size } from '../base/rgb-image.js';
import { bucketedOrder, bucketSizes, countByBucket, nearestBucket } from './buckets.js';

const named = (sizes: readonly Size[]): string[] => sizes.map(({ width, height }) => `${width}x${height}`);
const resolutions = fc.integer({ min: 1, max: 160 }).map((n) => 8 * n);

describe('bucketSizes', () => {
  it('is the field’s table at 512 and 1024, and has several shapes at small resolutions', () => {
    expect(named(bucketSizes(512))).toEqual(
      '320x640 384x640 448x576 512x512 576x448 640x384 640x320'.split(' '),
    );
    const wide = named(bucketSizes(1024)).slice(-6);
    expect(wide).toEqual('1024x1024 1088x960 1152x896 1216x832 1344x768 1408x704'.split(' '));
    expect(named(bucketSizes(64))).toEqual('32x64 48x80 64x64 80x48 64x32'.split(' '));
    expect(named(bucketSizes(8))).toEqual(['8x8']);
  });

  it('has the square, sides of whole latents, no more area and no more than twice as long as wide', () => {
    fc.assert(
      fc.property(resolutions, (resolution) => {
        const sizes = bucketSizes(resolution);
        expect(sizes).toContainEqual({ width: resolution, height: resolution });
        const ratios = sizes.map(({ width, height }) => width / height);
        expect(ratios).toEqual([...new Set(ratios)].sort((a, b) => a - b));
        for (const { width, height } of sizes) {
          expect([width % 8, height % 8]).toEqual([0, 0]);
          expect(width * height).toBeLessThanOrEqual(resolution ** 2);
          expect(Math.max(width, height) / Math.min(width, height)).toBeLessThanOrEqual(2);
          expect(sizes).toContainEqual({ width: height, height: width });
        }
      }),
    );
  });

  it('divides evenly through three halvings wherever the square does', () => {
    for (let resolution = 256; resolution <= 2048; resolution += 64)
      for (const { width, height } of bucketSizes(resolution))
        expect([width % 64, height % 64]).toEqual([0, 0]);
  });
});

describe('nearestBucket', () => {
  it('has the least difference of log aspect ratios', () => {
    const side = fc.integer({ min: 1, max: 5000 });
    fc.assert(
      fc.property(resolutions, side, side, (resolution, width, height) => {
        const buckets = bucketSizes(resolution);
        const distances = buckets.map((bucket) =>
          Math.abs(Math.log(bucket.width / bucket.height) - Math.log(width / height)),
        );
        const chosen = buckets.indexOf(nearestBucket({ width, height }, buckets));
        expect(distances[chosen]).toBeCloseTo(Math.min(...distances), 12);
      }),
    );
  });

  it('takes usual images to their shapes, and extreme ones to the last', () => {
    const at512 = (width: number, height: number) =>
      named([nearestBucket({ width, height }, bucketSizes(512))])[0];
    expect(at512(1000, 1000)).toBe('512x512');
    expect(at512(4000, 3000)).toBe('576x448');
    expect(at512(1920, 1080)).toBe('640x384');
    expect(at512(1080, 1920)).toBe('384x640');
    expect(at512(2000, 1000)).toBe('640x320');
    expect(at512(3000, 10)).toBe('640x320');
  });
});

describe('bucketedOrder', () => {
  const sizes = bucketSizes(64);
  const dataset = fc.array(fc.constantFrom(...sizes), { maxLength: 120 });

  /** As the loader cuts the order: a batch ends when it is full, or when the next row has another bucket. */
  function batchesOf(order: Uint32Array, buckets: readonly Size[], batchSize: number): number[][] {
    const batches: number[][] = [];
    for (const row of order) {
      const last = batches.at(-1);
      if (last === undefined || last.length === batchSize || buckets[last[0]!] !== buckets[row])
        batches.push([row]);
      else last.push(row);
    }
    return batches;
  }

  it('has each row once, one bucket a batch, and at most one smaller batch of each bucket', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(1000), dataset, fc.integer({ min: 1, max: 9 }), (...property) => {
        const [seed, epoch, buckets, batchSize] = property;
        const order = bucketedOrder(seed, epoch, buckets, batchSize);
        expect([...order].sort((a, b) => a - b)).toEqual([...buckets.keys()]);
        const batches = batchesOf(order, buckets, batchSize);
        for (const [bucket, count] of countByBucket(buckets)) {
          const own = batches.filter(([first]) => buckets[first!] === bucket);
          expect(own).toHaveLength(Math.ceil(count / batchSize));
          for (const batch of own)
            expect(new Set(batch.map((row) => buckets[row]))).toEqual(new Set([bucket]));
          expect(own.filter(({ length }) => length < batchSize).length).toBeLessThanOrEqual(1);
        }
        expect(bucketedOrder(seed, epoch, buckets, batchSize)).toEqual(order);
      }),
    );
  });

  it('is another one for another epoch or seed, with other rows together', () => {
    const buckets = Array.from({ length: 60 }, (_, row) => sizes[row % 3]!);
    const together = (seed: number, epoch: number) =>
      batchesOf(bucketedOrder(seed, epoch, buckets, 4), buckets, 4).map((rows) => rows.sort().join());
    const first = together(1, 0);
    for (const other of [together(1, 1), together(2, 0)])
      expect(other.filter((rows) => first.includes(rows)).length).toBeLessThan(3);
  });

  it('mixes the buckets over the epoch, smaller batches too', () => {
    // 20 batches of each of two buckets; of the third a single row, whose batch is as likely anywhere.
    const buckets = Array.from({ length: 161 }, (_, row) => sizes[row === 160 ? 2 : row % 2]!);
    const changes: number[] = [];
    const places: number[] = [];
    for (let epoch = 0; epoch < 200; epoch++) {
      const batches = batchesOf(bucketedOrder(3, epoch, buckets, 4), buckets, 4);
      const kinds = batches.map(([first]) => buckets[first!]);
      changes.push(kinds.filter((kind, i) => i > 0 && kind !== kinds[i - 1]).length);
      places.push(kinds.indexOf(sizes[2]) / 40);
    }
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    // Of 39 neighbours in a random order of 20 and 20, 20 differ; the lone batch is in the middle on average.
    expect(mean(changes)).toBeGreaterThan(18);
    expect(mean(places)).toBeGreaterThan(0.4);
    expect(mean(places)).toBeLessThan(0.6);
  });
});
