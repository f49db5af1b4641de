/**
 * @file The order of a dataset's rows in an epoch: a pure function of (seed, epoch), so a resumed run has the same order
 * without saved state, and so has any number of processes.
 *
 * All rows of a dataset that is not sharded are shuffled. Of many shards, which may not fit into the page cache or have to
 * be fetched, only a few are read at a time: the shards are shuffled and dealt to that many lanes. A batch takes rows from
 * all lanes in turn, each lane reads one shard after another, and the rows of a shard are shuffled. WebDataset's own
 * loaders keep a buffer of samples for that (webdataset/webdataset `filters.py`, `shuffle`). Here the members of a
 * shard are listed before they are read, so a buffer is not needed, and a shard is shuffled as a whole.
 */
import type { Size } from '../base/rgb-image.js';
import { bucketBatches, bucketedOrder } from './buckets.js';
import type { Mixture } from './mixture.js';
import { shuffledIndices, shuffledShardRows, shuffledShards } from './sampling.js';

/** The shards that a run reads at a time, unless it is told: enough for batches of rows from all over a dataset. */
export const defaultOpenShards = 64;

export interface OrderOptions {
  readonly seed: number;
  /** The number of rows. */
  readonly rows: number;
  /** The number of rows of each shard, whose sum is `rows`; undefined where the rows are not in shards. */
  readonly shards?: readonly number[] | undefined;
  /** The number of shards that are read at a time; 0: all rows are shuffled, as where there are no shards. */
  readonly openShards?: number | undefined;
  /** The bucket of each row; rows of one bucket have the same object. The rows of a batch are next to each other. */
  readonly buckets?: readonly Size[] | undefined;
  /** Rows of a full batch. */
  readonly batchSize: number;
}

/**
 * Returns the rows of an epoch as `epochOrder` takes them.
 * @param shards the number of rows of each shard of the dataset
 * @param buckets the bucket of each row of the dataset
 * @param mixture what an epoch has of the dataset. Default: every row once
 */
export function epochRows({
  rows,
  shards,
  buckets,
  mixture,
}: Pick<OrderOptions, 'shards' | 'buckets'> & {
  readonly rows: { readonly length: number };
  readonly mixture?: Mixture | undefined;
}): Pick<OrderOptions, 'rows' | 'shards' | 'buckets'> {
  if (mixture === undefined) return { rows: rows.length, shards, buckets };
  return {
    rows: mixture.length,
    shards: mixture.isWhole && shards ? mixture.shards(shards) : undefined,
    buckets: buckets && mixture.buckets(buckets),
  };
}

/** Returns the rows of an epoch in their order, without the first `position` ones. */
export function epochOrder(epoch: number, position: number, options: OrderOptions): Iterable<number> {
  const { seed, rows, shards = [], openShards = 0, buckets, batchSize } = options;
  if (shards.length > 1 && openShards > 0) {
    if (buckets === undefined) return shardedOrder(seed, epoch, shards, openShards, position);
    const sharded = shardedOrder(seed, epoch, shards, openShards);
    // Batches are not shuffled: their rows would come from shards all over the dataset.
    return flatFrom(bucketBatches(sharded, buckets, batchSize), position);
  }
  const order =
    buckets === undefined
      ? shuffledIndices(seed, epoch, rows)
      : bucketedOrder(seed, epoch, buckets, batchSize);
  return order.subarray(position);
}

function* flatFrom(batches: Iterable<readonly number[]>, position: number): Generator<number> {
  let index = 0;
  for (const batch of batches) for (const row of batch) if (index++ >= position) yield row;
}

/**
 * Yields the rows of an epoch from `position` on, with at most `lanes` shards in use at a time.
 * @param shards the number of rows of each shard
 */
export function* shardedOrder(
  seed: number,
  epoch: number,
  shards: readonly number[],
  lanes: number,
  position = 0,
): Generator<number> {
  const starts: number[] = [];
  let rows = 0;
  for (const count of shards) {
    starts.push(rows);
    rows += count;
  }
  const dealt = [...shuffledShards(seed, epoch, shards.length)].filter((shard) => shards[shard]! > 0);
  const lists = Array.from({ length: Math.min(lanes, dealt.length) }, (_, lane) =>
    dealt.filter((_, i) => i % lanes === lane),
  );
  /** The shard that each lane reads, and the order of its rows. */
  const open: { shard: number; order: Uint32Array }[] = [];
  let index = 0;
  for (const { lane, shard, offset } of inTurn(lists, shards)) {
    if (index++ < position) continue;
    if (open[lane]?.shard !== shard)
      open[lane] = { shard, order: shuffledShardRows(seed, epoch, shard, shards[shard]!) };
    yield starts[shard]! + open[lane].order[offset]!;
  }
}

/**
 * Yields the places of all rows, from each lane in turn. Lanes of more rows have proportionally more turns, so all lanes end
 * together: the last rows of an epoch are as mixed as the first.
 */
function* inTurn(
  lists: readonly (readonly number[])[],
  shards: readonly number[],
): Generator<{ lane: number; shard: number; offset: number }> {
  const lanes = lists.map((list, lane) => {
    const rows = list.reduce((sum, shard) => sum + shards[shard]!, 0);
    return { lane, list, rows, taken: 0, next: 0, offset: 0 };
  });
  const turns = Math.max(0, ...lanes.map(({ rows }) => rows));
  for (let turn = 1; turn <= turns; turn++)
    for (const lane of lanes) {
      if (lane.taken === Math.floor((turn * lane.rows) / turns)) continue;
      const shard = lane.list[lane.next]!;
      yield { lane: lane.lane, shard, offset: lane.offset };
      lane.taken++;
      lane.offset++;
      if (lane.offset === shards[shard]!) {
        lane.offset = 0;
        lane.next++;
      }
    }
}
