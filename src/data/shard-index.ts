/** @file The rows of many shards, of which only those in use are listed in memory. */
import { DatasetError } from '../base/errors.js';
import type { PackedRow, ShardListing } from './shard-listing.js';

/** About 150 MB of names, places and captions. */
const KEPT_ROWS = 2 ** 20;

type Listed = ShardListing['rows'];

export class ShardIndex {
  /** The number of rows of each shard. */
  readonly counts: number[] = [];
  readonly #shards: readonly string[];
  readonly #list: (shard: number) => ShardListing;
  readonly #openShards: number;
  readonly #keptRows: number;
  /** The number of rows before each shard. */
  readonly #starts: number[] = [];
  readonly #fingerprints: string[] = [];
  /** The shards that are listed in memory, the least recently used one first. */
  readonly #listed = new Map<number, Listed>();
  #listedRows = 0;
  #length = 0;

  /**
   * @param shards their names for messages
   * @param list lists a shard again
   * @param openShards the number of shards that rows are read from at a time; 0: all
   * @param keptRows the number of rows that are kept in memory in any case
   */
  constructor(
    shards: readonly string[],
    list: (shard: number) => ShardListing,
    openShards: number,
    keptRows = KEPT_ROWS,
  ) {
    this.#shards = shards;
    this.#list = list;
    this.#openShards = openShards;
    this.#keptRows = keptRows;
  }

  /** The number of all rows. */
  get length(): number {
    return this.#length;
  }

  /** Adds the rows of the next shard. */
  add(rows: Listed): void {
    const shard = this.counts.length;
    this.#starts.push(this.#length);
    this.counts.push(rows.length);
    this.#length += rows.length;
    this.#fingerprints.push(rows.fingerprint());
    this.#keep(shard, rows);
  }

  /**
   * Returns a row and the number of its shard; lists the shard if it is not in memory. @param index 0 … length - 1
   * @throws DatasetError where the shard has other rows than before
   */
  at(index: number): { shard: number; row: PackedRow } {
    const shard = this.#shardOf(index);
    const rows = this.#listed.get(shard) ?? this.#listAgain(shard);
    // The most recently used one is the last.
    this.#listed.delete(shard);
    this.#listed.set(shard, rows);
    return { shard, row: rows.at(index - this.#starts[shard]!) };
  }

  /** Returns the shard of a row: the last one that starts at or before it, which excludes empty ones. */
  #shardOf(index: number): number {
    let [low, high] = [0, this.#starts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#starts[middle]! <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #listAgain(shard: number): Listed {
    const file = this.#shards[shard]!;
    const { rows } = this.#list(shard);
    if (rows.fingerprint() !== this.#fingerprints[shard])
      throw new DatasetError(
        `Expected the ${this.counts[shard]} samples that ${file} had at the start of the run, but it has changed, and has ${rows.length}. Restore the shard, or start a new run.`,
      );
    this.#keep(shard, rows);
    return rows;
  }

  #keep(shard: number, rows: Listed): void {
    this.#listed.set(shard, rows);
    this.#listedRows += rows.length;
    if (this.#openShards === 0) return;
    for (const [oldest, { length }] of this.#listed) {
      // Twice as many: lanes of few rows are used rarely, and must not be listed again for each row.
      if (this.#listedRows <= this.#keptRows || this.#listed.size <= 2 * this.#openShards) return;
      this.#listed.delete(oldest);
      this.#listedRows -= length;
    }
  }
}
