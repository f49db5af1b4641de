/**
 * @file Several datasets in one run, each with its share of an epoch: whole repeats of its rows, and, where weights ask for
 * it, some of its rows once more, drawn for each epoch.
 */
import type { Size } from '../base/rgb-image.js';
import { shuffledPart } from './sampling.js';

/** A dataset's part of an epoch. */
export interface Portion {
  /** The number of its rows, 1 or more. */
  readonly rows: number;
  /** The number of them in an epoch. Above `rows`, all of them come before one comes again. */
  readonly taken: number;
}

/** A row in an epoch. */
export interface MixedRow {
  readonly row: number;
  /** The number that it is drawn by: the row, or another one for each repeat of it in the epoch. */
  readonly draw: number;
}

export class Mixture {
  /** The number of rows of an epoch. */
  readonly length: number;
  readonly #portions: readonly (Portion & { first: number; start: number })[];
  readonly #total: number;
  readonly #seed: number;
  /** Which rows of each dataset come once more than the others, in this epoch. */
  #drawn: { epoch: number; orders: Map<number, Uint32Array> } = { epoch: -1, orders: new Map() };

  /** @param portions of the datasets, in the order of their rows */
  constructor(portions: readonly Portion[], seed: number) {
    let [first, start] = [0, 0];
    this.#portions = portions.map((portion) => {
      const placed = { ...portion, first, start };
      first += portion.rows;
      start += portion.taken;
      return placed;
    });
    this.#total = first;
    this.length = start;
    this.#seed = seed;
  }

  /** Those of the datasets, in the order of their rows. */
  get portions(): readonly Portion[] {
    return this.#portions;
  }

  /** Whether every dataset is taken a whole number of times. */
  get isWhole(): boolean {
    return this.#portions.every(({ rows, taken }) => taken % rows === 0);
  }

  /** Returns the row at a place of an epoch, before it is shuffled. @param index 0 … length - 1 */
  at(epoch: number, index: number): MixedRow {
    const number = this.#portions.findLastIndex(({ start, taken }) => start <= index && taken > 0);
    const { first, start, rows, taken } = this.#portions[number]!;
    const repeat = Math.floor((index - start) / rows);
    const place = (index - start) % rows;
    const isPartial = (repeat + 1) * rows > taken;
    const row = first + (isPartial ? this.#order(epoch, number)[place]! : place);
    return { row, draw: row + repeat * this.#total };
  }

  /** Returns the shards of an epoch. @param shards those of the datasets, each of which is whole */
  shards(shards: readonly number[]): number[] {
    let next = 0;
    return this.#portions.flatMap(({ rows, taken }) => {
      const own: number[] = [];
      for (let sum = 0; sum < rows; next++) {
        own.push(shards[next]!);
        sum += shards[next]!;
      }
      return Array<number[]>(taken / rows)
        .fill(own)
        .flat();
    });
  }

  /** Returns the bucket of each place of an epoch, where every dataset is taken a whole number of times. */
  buckets(buckets: readonly Size[]): Size[] {
    return Array.from({ length: this.length }, (_, index) => buckets[this.at(0, index).row]!);
  }

  #order(epoch: number, number: number): Uint32Array {
    if (this.#drawn.epoch !== epoch) this.#drawn = { epoch, orders: new Map() };
    const { orders } = this.#drawn;
    const order = orders.get(number) ?? shuffledPart(this.#seed, epoch, number, this.#portions[number]!.rows);
    orders.set(number, order);
    return order;
  }
}

/**
 * Returns the portions of datasets whose rows make up the given shares of an epoch, which has as many rows as all datasets
 * together.
 * @param weights above 0, one for each dataset; their sum does not matter
 */
export function portionsByWeight(parts: readonly number[], weights: readonly number[]): Portion[] {
  const total = parts.reduce((sum, rows) => sum + rows, 0);
  const sum = weights.reduce((sum, weight) => sum + weight, 0);
  return parts.map((rows, i) => ({ rows, taken: Math.max(1, Math.round((total * weights[i]!) / sum)) }));
}
