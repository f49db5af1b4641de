import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Size } from '../base/rgb-image.js';
import { cutBatches } from './batch-plan.js';
import { bucketedOrder, bucketSizes, countBatches } from './buckets.js';
import { epochOrder, type OrderOptions, shardedOrder } from './epoch-order.js';
import { shuffledIndices } from './sampling.js';

const sizes = bucketSizes(64);
const sumOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);
const shardCounts = fc.array(fc.oneof(fc.nat(12), fc.constant(0), fc.integer({ min: 30, max: 60 })), {
  minLength: 2,
  maxLength: 30,
});
const drawn = shardCounts.chain((shards) =>
  fc.record({
    shards: fc.constant(shards),
    seed: fc.maxSafeNat(),
    epoch: fc.nat(1000),
    openShards: fc.integer({ min: 1, max: 40 }),
    batchSize: fc.integer({ min: 1, max: 9 }),
    buckets: fc.option(fc.infiniteStream(fc.constantFrom(...sizes)), { nil: undefined }),
  }),
);

/** Returns the shard of each row of an order. */
function shardsOf(order: Iterable<number>, shards: readonly number[]): number[] {
  const of = shards.flatMap((count, shard) => new Array<number>(count).fill(shard));
  return Array.from(order, (row) => of[row] as number);
}

describe('epochOrder', () => {
  const optionsOf = ({
    shards,
    buckets,
    ...options
  }: typeof drawn extends fc.Arbitrary<infer T> ? T : never) => {
    const rows = sumOf(shards);
    return { ...options, shards, rows, buckets: buckets && [...buckets.take(rows)] } satisfies OrderOptions;
  };

  it('has each row once, and goes on from any position', () => {
    fc.assert(
      fc.property(drawn, fc.nat(), (some, place) => {
        const options = optionsOf(some);
        const order = [...epochOrder(some.epoch, 0, options)];
        expect([...order].sort((a, b) => a - b)).toEqual([...Array(options.rows).keys()]);
        const position = place % (options.rows + 1);
        expect([...epochOrder(some.epoch, position, options)]).toEqual(order.slice(position));
      }),
    );
  });

  it('makes as many batches of one bucket as are counted, resumed after any of them', () => {
    fc.assert(
      fc.property(drawn, fc.nat(), (some, place) => {
        const options = optionsOf(some);
        const { buckets = new Array<Size>(options.rows).fill(sizes[0]!), batchSize } = options;
        const cut = (position: number) => [
          ...cutBatches(epochOrder(some.epoch, position, options), (row) => buckets[row]!, batchSize),
        ];
        const batches = cut(0);
        expect(batches).toHaveLength(countBatches(buckets, batchSize));
        const done = place % (batches.length + 1);
        expect(cut(sumOf(batches.slice(0, done).map(({ length }) => length)))).toEqual(batches.slice(done));
      }),
    );
  });

  it('reads as many shards at a time as it is told to, each from its first use to its last', () => {
    fc.assert(
      fc.property(drawn, ({ seed, epoch, shards, openShards }) => {
        const order = shardsOf(shardedOrder(seed, epoch, shards, openShards), shards);
        let most = 0;
        for (let i = 0; i < order.length; i++) {
          const open = new Set(order.slice(0, i + 1).filter((shard) => order.indexOf(shard, i) >= 0));
          most = Math.max(most, open.size);
        }
        expect(most).toBeLessThanOrEqual(openShards);
      }),
      { numRuns: 50 },
    );
  });

  it('shuffles all rows without shards, with one, and where it is told to', () => {
    const options = { seed: 5, rows: 50, batchSize: 4 };
    const whole = [...shuffledIndices(5, 3, 50)];
    for (const change of [{}, { shards: [50], openShards: 64 }, { shards: [20, 30], openShards: 0 }])
      expect([...epochOrder(3, 0, { ...options, ...change })]).toEqual(whole);
    const buckets = Array.from({ length: 50 }, (_, row) => sizes[row % 3]!);
    expect([...epochOrder(3, 0, { ...options, buckets })]).toEqual([...bucketedOrder(5, 3, buckets, 4)]);
    expect([...epochOrder(3, 0, { ...options, shards: [20, 30], openShards: 64 })]).not.toEqual(whole);
  });
});

describe('shardedOrder', () => {
  const shards = new Array<number>(100).fill(20);

  it('takes rows from the lanes in turn', () => {
    const order = shardsOf(shardedOrder(1, 2, shards, 10), shards);
    for (let turn = 0; turn < order.length; turn += 10)
      expect(new Set(order.slice(turn, turn + 10)).size).toBe(10);
    // The lanes' first shards are the shards of the first 20 turns.
    expect(new Set(order.slice(0, 200)).size).toBe(10);
  });

  it('mixes lanes of any length evenly over the epoch', () => {
    const uneven = [1000, 10, 100, 0, 390];
    const order = shardsOf(shardedOrder(1, 2, uneven, 64), uneven);
    for (const part of [order.slice(0, 750), order.slice(750)])
      for (const [shard, count] of uneven.entries())
        expect(Math.abs(part.filter((one) => one === shard).length - count / 2)).toBeLessThanOrEqual(1);
  });

  it('is another order in another epoch and with another seed: of shards, of their rows, of who is beside whom', () => {
    const first = [...shardedOrder(1, 0, shards, 10)];
    for (const other of [[...shardedOrder(1, 1, shards, 10)], [...shardedOrder(2, 0, shards, 10)]]) {
      expect(shardsOf(other, shards).slice(0, 10)).not.toEqual(shardsOf(first, shards).slice(0, 10));
      const rowsOf = (order: readonly number[]) => order.filter((row) => row < 20);
      expect(rowsOf(other)).not.toEqual(rowsOf(first));
      const next = new Map(first.map((row, i) => [row, first[i + 1]]));
      expect(other.filter((row, i) => next.get(row) === other[i + 1]).length).toBeLessThan(20);
    }
  });

  it('has every shard as likely at any time', () => {
    const starts = new Array<number>(20).fill(0);
    const few = new Array<number>(20).fill(3);
    const epochs = 2000;
    for (let epoch = 0; epoch < epochs; epoch++)
      for (const shard of shardsOf(shardedOrder(7, epoch, few, 5), few).slice(0, 5)) starts[shard]!++;
    // A quarter of the shards are in the first turn: 500 ± 19.
    for (const count of starts) expect(Math.abs(count - epochs / 4)).toBeLessThan(5 * 19);
  });
});
