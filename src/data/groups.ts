/**
 * @file Groups: rows that show the same thing. The references of a row are other rows of its group, so that an adapter
 * learns what they have in common, and not to copy.
 */
import { DatasetError } from '../base/errors.js';
import { counted } from '../base/listing.js';
import type { Dataset, DatasetRow } from './dataset.js';
import { referencesFor } from './sampling.js';

export class Groups {
  /** The rows in the order of their groups. */
  readonly #sorted: Uint32Array;
  /** The first place of each group in `sorted`, and the end of the last. */
  readonly #starts: Uint32Array;
  /** The group of each row. */
  readonly #groupOf: Uint32Array;
  /** The number of rows without a group. Each is its own reference. */
  readonly ungrouped: number;

  /**
   * Finds the groups of a dataset's rows. A group lies within one dataset of those that were joined; and where only some
   * shards are read at a time, within one shard, so that a reference does not open another one.
   * @param openShards as in `epochOrder`
   */
  constructor({ rows, shards, parts }: Dataset, openShards = 0) {
    const isInLanes =
      shards !== undefined && shards.length > 1 && openShards > 0 && shards.length > openShards;
    const blocks = (isInLanes ? shards : parts) ?? [rows.length];
    const groupOf = new Uint32Array(rows.length);
    const sizes: number[] = [];
    let ungrouped = 0;
    let row = 0;
    for (const count of blocks) {
      const numbers = new Map<string, number>();
      for (const end = row + count; row < end; row++) {
        const { group } = rows.at(row) as DatasetRow;
        const number = (group === undefined ? undefined : numbers.get(group)) ?? sizes.length;
        if (group === undefined) ungrouped++;
        else numbers.set(group, number);
        groupOf[row] = number;
        sizes[number] = (sizes[number] ?? 0) + 1;
      }
    }
    const starts = new Uint32Array(sizes.length + 1);
    for (const [i, size] of sizes.entries()) starts[i + 1] = starts[i]! + size;
    const next = starts.slice();
    const sorted = new Uint32Array(rows.length);
    for (let i = 0; i < rows.length; i++) sorted[next[groupOf[i]!]!++] = i;
    this.#sorted = sorted;
    this.#starts = starts;
    this.#groupOf = groupOf;
    this.ungrouped = ungrouped;
  }

  /** The numbers of rows of the groups that have several. */
  get sizes(): number[] {
    return this.#allSizes().filter((size) => size > 1);
  }

  /** The number of rows that are alone in their group. Each is its own reference. */
  get alone(): number {
    return this.#allSizes().filter((size) => size === 1).length - this.ungrouped;
  }

  #allSizes(): number[] {
    return Array.from(this.#starts.subarray(1), (end, i) => end - this.#starts[i]!);
  }

  /**
   * Returns the rows whose reference images a row takes in an epoch: of its group, never itself unless it is alone.
   * @param draw the number that the row is drawn by
   */
  referencesOf(
    row: number,
    { seed, epoch, draw, count }: { seed: number; epoch: number; draw: number; count: number },
  ): number[] {
    const group = this.#groupOf[row]!;
    const [first, end] = [this.#starts[group]!, this.#starts[group + 1]!];
    const available = end - first - 1;
    if (available === 0) return Array<number>(count).fill(row);
    return referencesFor(seed, epoch, draw, { available, count }).map((place) => {
      // The rows of a group are in ascending order; the row itself, and all behind it, are passed over.
      const member = this.#sorted[first + place]!;
      return member < row ? member : this.#sorted[first + place + 1]!;
    });
  }

  /** Describes the groups. @throws DatasetError where no row has another one as its reference */
  describe(): string {
    const { sizes, alone, ungrouped } = this;
    if (sizes.length === 0)
      throw new DatasetError(
        `Expected rows of the same group, as --group-by says, but ${ungrouped > 0 ? `${counted(ungrouped, 'row')} ${ungrouped === 1 ? 'has' : 'have'} none and ` : ''}${alone} ${alone === 1 ? 'is' : 'are'} alone in ${alone === 1 ? 'its' : 'theirs'}. Leave --group-by out to train on the images themselves; of more shards than --open-shards, a group must lie in one shard.`,
      );
    const rows = sizes.reduce((sum, size) => sum + size, 0);
    const own = [
      alone > 0 && `${counted(alone, 'row')} ${alone === 1 ? 'is' : 'are'} alone in a group`,
      ungrouped > 0 && `${counted(ungrouped, 'row')} ${ungrouped === 1 ? 'has' : 'have'} no group`,
    ].filter(Boolean);
    const rest = own.length === 0 ? '' : `; ${own.join(' and ')}: the reference is the image itself`;
    return `Groups: ${sizes.length} of ${rows} rows, whose references are other rows of the group${rest}`;
  }
}
