/** @file The interface of a dataset, independent of how it is stored. */
import { createHash } from 'node:crypto';
import type { BadRow } from '../base/listing.js';
import type { ImageSource } from '../images/image-source.js';

/** One training example. */
export interface DatasetRow {
  /** The image to train on. */
  readonly image: ImageSource;
  /** The reference image for the adapter; the same object as `image` unless the row names another. */
  readonly promptImage: ImageSource;
  /** One or more captions, which may be empty. One of them is drawn for each epoch, by (seed, epoch, row). */
  readonly captions: readonly string[];
  /** What the row shows: rows of one group are references of each other. Undefined: it is its own reference. */
  readonly group?: string | undefined;
  /** An image of the size of `image`, white where that counts. Undefined: all of it counts. */
  readonly mask?: ImageSource | undefined;
  /** As `mask`, of a prompt image that is another row's. */
  readonly promptMask?: ImageSource | undefined;
}

/** Returns the mask of a row's prompt image. A prompt image of its own has none. */
export function promptMaskOf({ image, promptImage, mask, promptMask }: DatasetRow): ImageSource | undefined {
  return promptImage === image ? mask : promptMask;
}

/** Rows by their index: an array, or an object that makes each row on demand. */
export interface Rows extends Iterable<DatasetRow> {
  readonly length: number;
  at(index: number): DatasetRow | undefined;
}

export interface Dataset {
  readonly rows: Rows;
  /** The number of rows of each shard, in the order of the rows; undefined where the rows are not in shards. */
  readonly shards?: readonly number[] | undefined;
  /** The number of rows of each dataset that was joined; undefined where there is one. */
  readonly parts?: readonly number[] | undefined;
  /** A description such as 'WebDataset: 12 shards, 120,000 samples'. */
  readonly description: string;
  /** A hash of names, captions and sizes, which does not depend on the folder. No image is read for it. */
  readonly fingerprint: string;
  /** Samples without an image or a caption. They are not among the rows. */
  readonly incomplete: readonly BadRow[];
  /** Files and folders that look like part of the dataset but are not used, each with the reason. */
  readonly leftOut: readonly BadRow[];
}

/** Returns rows that are created on demand. */
export function lazyRows(length: number, rowAt: (index: number) => DatasetRow): Rows {
  return {
    length,
    at: (index) => (index < length ? rowAt(index) : undefined),
    *[Symbol.iterator]() {
      for (let i = 0; i < length; i++) yield rowAt(i);
    },
  };
}

/**
 * Returns a dataset with the rows of all datasets, one after another. If one of them is in shards, so is it; a dataset
 * without shards is then one shard.
 */
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
    shards: datasets.some(({ shards }) => shards)
      ? datasets.flatMap(({ shards, rows }) => shards ?? [rows.length])
      : undefined,
    parts: datasets.map(({ rows }) => rows.length),
    description: datasets.map(({ description }) => description).join('; '),
    fingerprint: hash.digest(),
    incomplete: datasets.flatMap(({ incomplete }) => incomplete),
    leftOut: datasets.flatMap(({ leftOut }) => leftOut),
  };
}

/** Computes the SHA-256 of a list as JSON, value by value, so that the whole list is never in memory. */
export class ListHash {
  readonly #hash = createHash('sha256');
  #separator = '[';

  add(value: unknown): void {
    this.addJson(JSON.stringify(value));
  }

  /** Adds a value that is JSON already. */
  addJson(text: string): void {
    this.#hash.update(`${this.#separator}${text}`);
    this.#separator = ',';
  }

  /** Returns 64 hexadecimal digits. Nothing can be added afterwards. */
  digest(): string {
    return this.#hash.update(']').digest('hex');
  }
}
