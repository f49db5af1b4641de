/** @file The interface of a dataset, independent of how it is stored. */
import { createHash } from 'node:crypto';
import type { BadRow } from '../base/listing.js';
import type { ImageSource } from '../images/image-source.js';

/** One training example. */
export interface DatasetRow {
  /** The image that is trained on. */
  readonly image: ImageSource;
  /** The image that the adapter sees; the same as `image` unless the row says otherwise. */
  readonly promptImage: ImageSource;
  /** One or more, each of which may be empty; which one a row has in an epoch is drawn by (seed, epoch, row). */
  readonly captions: readonly string[];
}

/** Rows by their index: an array, or an object that makes each row on demand. */
export interface Rows extends Iterable<DatasetRow> {
  readonly length: number;
  at(index: number): DatasetRow | undefined;
}

export interface Dataset {
  readonly rows: Rows;
  /** In words: 'WebDataset: 12 shards, 120,000 samples'. */
  readonly description: string;
  /** A hash of names, captions and sizes, independent of where the files are. No image is read for it. */
  readonly fingerprint: string;
  /** Samples without an image or a caption. They are not among the rows. */
  readonly incomplete: readonly BadRow[];
  /** Files and folders that look like part of the dataset but are not used, each with the reason. */
  readonly leftOut: readonly BadRow[];
}

/** Returns rows that are made on demand. */
export function lazyRows(length: number, rowAt: (index: number) => DatasetRow): Rows {
  return {
    length,
    at: (index) => (index < length ? rowAt(index) : undefined),
    *[Symbol.iterator]() {
      for (let i = 0; i < length; i++) yield rowAt(i);
    },
  };
}

/** The rows of all datasets, one dataset after another. */
export function joinDatasets(datasets: readonly Dataset[]): Dataset {
  const starts: number[] = [];
  let length = 0;
  const hash = new ListHash();
  for (const { rows, fingerprint } of datasets) {
    starts.push(length);
    length += rows.length;
    hash.add(fingerprint);
  }
  const rowAt = (index: number): DatasetRow => {
    const which = starts.findLastIndex((start) => start <= index);
    return (datasets[which] as Dataset).rows.at(index - (starts[which] as number)) as DatasetRow;
  };
  return {
    rows: lazyRows(length, rowAt),
    description: datasets.map(({ description }) => description).join('; '),
    fingerprint: hash.digest(),
    incomplete: datasets.flatMap(({ incomplete }) => incomplete),
    leftOut: datasets.flatMap(({ leftOut }) => leftOut),
  };
}

/** SHA-256 of a list as JSON, computed value by value, so that the list is never in memory. */
export class ListHash {
  readonly #hash = createHash('sha256');
  #separator = '[';

  add(value: unknown): void {
    this.#hash.update(`${this.#separator}${JSON.stringify(value)}`);
    this.#separator = ',';
  }

  /** @returns 64 hexadecimal digits; nothing can be added afterwards */
  digest(): string {
    return this.#hash.update(']').digest('hex');
  }
}
