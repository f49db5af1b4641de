import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect, createLoaderDataset, type LoaderDataset, rowsOf } from '../../test/loader-dataset.js';
import { floatsOf } from '../../test/pixel-floats.js';
import type { Size } from '../base/rgb-image.js';
import { PixelValues } from '../images/pixels.js';
import { cutBatches, shareOf } from './batch-plan.js';
import { bucketSizes } from './buckets.js';
import type { Batch, DataLoaderOptions } from './data-loader.js';

let loader: LoaderDataset['loader'];
let remove: LoaderDataset['remove'];

beforeAll(async () => {
  ({ loader, remove } = await createLoaderDataset());
});
afterAll(() => remove());

const sizes = bucketSizes(16);
const square: Size = { width: 6, height: 6 };
const worlds = fc.integer({ min: 1, max: 5 });

/** A dataset of `count` rows in buckets or without, with the indices of rows that cannot be read. */
const datasets = fc.integer({ min: 1, max: 40 }).chain((count) =>
  fc.record({
    count: fc.constant(count),
    kinds: fc.option(fc.array(fc.nat(4), { minLength: count, maxLength: count }), { nil: undefined }),
    // Shards of these lengths, the last one with the rest.
    shards: fc.option(fc.array(fc.nat(12), { maxLength: 6 }), { nil: undefined }),
    openShards: fc.nat(4),
    bad: fc.uniqueArray(fc.nat(count - 1), { maxLength: Math.min(8, count - 1) }),
    batchSize: fc.integer({ min: 1, max: 9 }),
    prefetch: fc.integer({ min: 1, max: 3 }),
    epoch: fc.nat(3),
  }),
);
type Drawn = typeof datasets extends fc.Arbitrary<infer T> ? T : never;

const loaderOf = (
  { count, kinds, bad, batchSize, prefetch, shards: firstShards, openShards }: Drawn,
  change: Partial<DataLoaderOptions> = {},
) => {
  const buckets = kinds?.map((kind) => sizes[kind]!);
  let left = count;
  const shards = firstShards?.map((length) => {
    const own = Math.min(length, left);
    left -= own;
    return own;
  });
  shards?.push(left);
  const files = Object.fromEntries(bad.map((row) => [row, 'missing.png']));
  return loader({ buckets, batchSize, prefetch, shards, openShards, ...change }, files, count);
};

const loadersOf = (drawn: Drawn, worldSize: number) =>
  Array.from({ length: worldSize }, (_, rank) => loaderOf(drawn, { share: { rank, worldSize } }));

/** The batches of all ranks as those of one process. */
function joined(ranks: readonly (readonly Batch[])[]): Batch[] {
  return (ranks[0] as readonly Batch[]).map((first, i) => {
    const parts = ranks.map((batches) => batches[i] as Batch);
    const all = <T>(of: (batch: Batch) => readonly T[]): T[] => parts.flatMap((batch) => [...of(batch)]);
    const joinValues = <Data>(
      of: (batch: Batch) => { data: Iterable<number | bigint>; shape: readonly number[] } | null,
      make: (values: never[]) => Data,
    ) => ({
      data: make(all((batch) => [...of(batch)!.data]) as never[]),
      shape: [all(({ rows }) => rows).length, ...of(first)!.shape.slice(1)],
    });
    const joinPixels = (of: (batch: Batch) => PixelValues | null): PixelValues => {
      const { table, shape } = of(first) as PixelValues;
      const images = all((batch) => (of(batch) as PixelValues).images);
      return new PixelValues(images, table, { width: shape[3], height: shape[2] });
    };
    return {
      ...first,
      pixelValues: joinPixels(({ pixelValues }) => pixelValues),
      clipPixelValues: joinPixels(({ clipPixelValues }) => clipPixelValues),
      inputIds: joinValues(
        ({ inputIds }) => inputIds,
        (all) => BigInt64Array.from(all),
      ),
      ...{ rows: all(({ rows }) => rows), places: all(({ places }) => places) },
      ...{ drops: all(({ drops }) => drops), flips: all(({ flips }) => flips) },
      captions: all(({ captions }) => captions),
      references: all(({ references }) => references),
    };
  });
}

describe('the shares of several processes', () => {
  it('are the batches of one, to the byte, whatever can be read', async () => {
    await fc.assert(
      fc.asyncProperty(datasets, worlds, async (drawn, worldSize) => {
        const whole = await collect(loaderOf(drawn).batches(drawn.epoch));
        const loaders = loadersOf(drawn, worldSize);
        const ranks = await Promise.all(loaders.map((one) => collect(one.batches(drawn.epoch))));
        for (const batches of ranks) expect(batches).toHaveLength(whole.length);
        expect(joined(ranks)).toEqual(whole);
        // Every rank has read, and so reports, the rows of its own share alone.
        const reported = loaders.flatMap(({ badRows }) => [...badRows.keys()]);
        expect(reported.sort((a, b) => a - b)).toEqual([...drawn.bad].sort((a, b) => a - b));
      }),
      { numRuns: 25 },
    );
  });

  it('have each readable row once an epoch, in batches that bad rows make smaller', async () => {
    await fc.assert(
      fc.asyncProperty(datasets, worlds, async (drawn, worldSize) => {
        const plan = await collect(loaderOf({ ...drawn, bad: [] }).batches(drawn.epoch));
        const ranks = await Promise.all(
          loadersOf(drawn, worldSize).map((one) => collect(one.batches(drawn.epoch))),
        );
        const come = joined(ranks);
        expect(rowsOf(come).sort((a, b) => a - b)).toEqual(
          [...Array(drawn.count).keys()].filter((row) => !drawn.bad.includes(row)),
        );
        for (const [i, { rows, places, planned, nextPosition, size }] of come.entries()) {
          const all = plan[i] as Batch;
          expect([planned, nextPosition, size]).toEqual([all.rows.length, all.nextPosition, all.size]);
          expect(rows).toEqual(all.rows.filter((row) => !drawn.bad.includes(row)));
          expect(rows).toEqual(places.map((place) => all.rows[place]));
        }
        for (const [rank, batches] of ranks.entries())
          for (const { places, planned } of batches) {
            const [first, end] = shareOf(planned, { rank, worldSize });
            expect(places.every((place) => place >= first && place < end)).toBe(true);
          }
      }),
      { numRuns: 25 },
    );
  });

  it('resume at the end of any batch, with another number of processes', async () => {
    await fc.assert(
      fc.asyncProperty(datasets, worlds, fc.nat(), async (drawn, worldSize, place) => {
        const whole = await collect(loaderOf(drawn).batches(drawn.epoch));
        const k = place % whole.length;
        const ranks = await Promise.all(
          loadersOf(drawn, worldSize).map((one) => collect(one.batches(drawn.epoch, whole[k]!.nextPosition))),
        );
        expect(joined(ranks)).toEqual(whole.slice(k + 1));
      }),
      { numRuns: 25 },
    );
  });

  it('start a batch at a position between two, which older versions saved', async () => {
    const saved = await collect(loader({ share: { rank: 1, worldSize: 2 } }).batches(0, 6));
    expect(saved.map(({ planned, nextPosition }) => [planned, nextPosition])).toEqual([
      ...[10, 14, 18, 22].map((position) => [4, position]),
      [1, 23],
    ]);
    const whole = rowsOf(await collect(loader().batches(0, 6)));
    expect(whole).toEqual(rowsOf(await collect(loader().batches(0))).slice(6));
  });

  it('are empty where there are fewer rows than processes, in tensors of no rows', async () => {
    const ranks = await Promise.all(
      [0, 1, 2].map((rank) => collect(loader({ share: { rank, worldSize: 3 } }, {}, 2).batches(0))),
    );
    expect(ranks.map((batches) => rowsOf(batches).length)).toEqual([0, 1, 1]);
    const [[empty]] = ranks as [[Batch]];
    expect(empty.pixelValues?.shape).toEqual([0, 3, 6, 6]);
    expect(floatsOf(empty.pixelValues)).toHaveLength(0);
    expect(empty.clipPixelValues?.shape).toEqual([0, 3, 4, 4]);
    expect(empty.inputIds?.shape).toEqual([0, 6]);
    expect([empty.size, empty.planned, empty.places]).toEqual([square, 2, []]);
  });

  it('open the images of their own rows alone', async () => {
    const opened: number[][] = [[], []];
    const rows = Array.from({ length: 37 }, (_, i) => i);
    for (const rank of [0, 1]) {
      const sources = rows.map((row) => {
        const read = async () => {
          opened[rank]?.push(row);
          throw new Error('not an image');
        };
        const image = { name: `${row}`, read };
        return { image, promptImage: image, captions: [''] };
      });
      const data = loader({ rows: sources, share: { rank, worldSize: 2 }, batchSize: 2 });
      await expect(collect(data.batches(0))).rejects.toThrow(/9 of 37 are bad so far/);
    }
    expect(opened[0]?.some((row) => opened[1]?.includes(row))).toBe(false);
    const whole = await collect(loader({ batchSize: 2 }, {}, 37).batches(0));
    for (const rank of [0, 1])
      expect(opened[rank]?.every((row) => whole.some((batch) => batch.rows[rank] === row))).toBe(true);
  });

  it('stop together where the rows that all of them found are too many', () => {
    const found = (first: number, count: number) =>
      Array.from(
        { length: count },
        (_, i) => [first + i, { file: `${first + i}.png`, reason: 'damaged' }] as const,
      );
    const data = loader();
    data.addBadRows(found(0, 5));
    data.addBadRows(found(3, 5));
    expect(data.badRows.size).toBe(8);
    expect(() => data.addBadRows(found(9, 1))).toThrow(/9 of 23 are bad so far \(at most 8 are skipped\)/);
  });
});

describe('one process', () => {
  it('has the batches that earlier versions had', async () => {
    // Recorded with the loader before it had shares: rows, positions and drops of every batch.
    const hash = createHash('sha256');
    for (const [count, batchSize, kinds] of [
      [23, 4, 0],
      [60, 7, 3],
      [41, 16, 5],
    ] as const) {
      const buckets =
        kinds === 0 ? undefined : Array.from({ length: count }, (_, i) => sizes[(i * i) % kinds]!);
      for (let epoch = 0; epoch < 3; epoch++)
        for await (const batch of loader({ buckets, batchSize, inputs: ['inputIds'] }, {}, count).batches(
          epoch,
        ))
          hash.update(JSON.stringify([batch.rows, batch.nextPosition, batch.drops, batch.captions]));
    }
    expect(hash.digest('hex')).toBe('31f827459e185265b09139cf90b817dd0e1e288e007ed614c2d8d4c8c7afd082');
  });
});

describe('shareOf and cutBatches', () => {
  it('cover any batch in parts that differ by at most one row', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 1, max: 64 }), (count, worldSize) => {
        const parts = Array.from({ length: worldSize }, (_, rank) => shareOf(count, { rank, worldSize }));
        expect([parts[0]?.[0], parts.at(-1)?.[1]]).toEqual([0, count]);
        for (let i = 1; i < worldSize; i++) expect(parts[i]?.[0]).toBe(parts[i - 1]?.[1]);
        const lengths = parts.map(([first, end]) => end - first);
        expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('end a batch where it is full, and where the size changes', () => {
    const [a, b] = sizes as [Size, Size];
    const of = [a, a, a, b, b, a];
    expect([...cutBatches([0, 1, 2, 3, 4, 5], (row) => of[row]!, 2)]).toEqual([[0, 1], [2], [3, 4], [5]]);
    expect([...cutBatches([], () => a, 2)]).toEqual([]);
  });
});
