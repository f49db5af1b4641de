import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { tarOf } from '../../test/write-tar.js';
import { shardedOrder } from './epoch-order.js';
import { ShardIndex } from './shard-index.js';
import { listShard } from './shard-listing.js';

vi.mock('./shard-listing.js', { spy: true });
const listing = vi.mocked(listShard);

const COUNTS = [5, 0, 7, 5, 6, 5, 5, 4, 5, 5, 1, 5];
const ROWS = COUNTS.reduce((sum, count) => sum + count);

let dir: string;
let shards: string[];
const tarOfRows = (shard: number, rows: number) =>
  tarOf([
    ['README', 'not a sample'],
    ...Array.from({ length: rows }, (_, row): [string, string][] => [
      [`${row}.jpg`, `image ${shard} ${row}`],
      [`${row}.txt`, `caption ${shard} ${row}`],
    ]).flat(),
  ]);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-shards-'));
  shards = COUNTS.map((_, shard) => join(dir, `${shard}.tar`));
  for (const [shard, rows] of COUNTS.entries()) writeFileSync(shards[shard]!, await tarOfRows(shard, rows));
});
afterAll(() => rmSync(dir, { recursive: true }));
beforeEach(() => {
  listing.mockClear();
});

function indexOf(openShards: number, keptRows?: number): ShardIndex {
  const index = new ShardIndex(shards, (shard) => listShard(shards[shard]!), openShards, keptRows);
  for (const shard of shards) index.add(listShard(shard).rows);
  listing.mockClear();
  return index;
}

const captionsIn = (index: ShardIndex, order: Iterable<number>): string[] =>
  Array.from(order, (row) => index.at(row).row[2] as string);
const captions = COUNTS.flatMap((rows, shard) =>
  Array.from({ length: rows }, (_, row) => `caption ${shard} ${row}`),
);

describe('ShardIndex', () => {
  it('has the rows of all shards, one after another', () => {
    const index = indexOf(0, 0);
    expect([index.length, index.counts]).toEqual([ROWS, COUNTS]);
    expect(captionsIn(index, captions.keys())).toEqual(captions);
    expect(index.at(5).shard).toBe(2);
    // All are in memory.
    expect(listing).not.toHaveBeenCalled();
  });

  it('lists each shard once more in an epoch that reads a few at a time, if not all are kept', () => {
    for (const lanes of [1, 2, 3]) {
      const index = indexOf(lanes, 10);
      const order = [...shardedOrder(3, 1, COUNTS, lanes)];
      expect(captionsIn(index, order)).toEqual(order.map((row) => captions[row]));
      const again = listing.mock.calls.map(([shard]) => shard);
      expect(new Set(again).size).toBe(again.length);
      expect(again.length).toBeGreaterThan(4);
    }
  });

  it('keeps all shards where they have few rows', () => {
    captionsIn(indexOf(1), captions.keys());
    captionsIn(indexOf(1, ROWS), captions.keys());
    expect(listing).not.toHaveBeenCalled();
  });

  it('refuses a shard that has changed since', async () => {
    const index = indexOf(1, 0);
    writeFileSync(shards[0]!, await tarOfRows(99, 5));
    expect(() => index.at(0)).toThrow(
      `Expected the 5 samples that ${shards[0]} had at the start of the run, but it has changed, and has 5. Restore the shard, or start a new run.`,
    );
    writeFileSync(shards[0]!, await tarOfRows(0, 5));
    expect(index.at(0).row[2]).toBe('caption 0 0');
  });
});
