/**
 * @file Loads training batches ahead of their use.
 *
 * Images are decoded and resized in Node's threads, also while LibTorch blocks the main thread, if they were started before.
 * So a queue of rows is kept in flight. Each holds its two cropped images as bytes (a quarter of the memory of floats), which
 * become floats when their encoder takes them.
 */
import { DatasetError } from '../base/errors.js';
import { type BadRow, listed } from '../base/listing.js';
import type { Size } from '../base/rgb-image.js';
import { poolThreads } from '../base/thread-pool.js';
import type { ImageProcessor } from '../images/image-processor.js';
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import { maxBadRows } from './bad-rows.js';
import { cutBatches, type Share, shareOf } from './batch-plan.js';
import { countBatches } from './buckets.js';
import { epochOrder, epochRows } from './epoch-order.js';
import { assemble, type Example, type Examples, type Input, referencesOf, type Sample } from './examples.js';
import type { MixedRow, Mixture } from './mixture.js';
import { readAhead } from './read-ahead.js';
import { readExample, Unreadable } from './read-example.js';
import { type SampleOptions, sampleOf } from './sample-of.js';

export interface DataLoaderOptions extends SampleOptions {
  readonly tokenizer: PromptTokenizer;
  readonly imageProcessor: ImageProcessor;
  /** The number of rows of each shard. Default: the rows are not in shards. */
  readonly shards?: readonly number[] | undefined;
  /** The number of shards that are read at a time; 0, the default: all rows are shuffled. */
  readonly openShards?: number | undefined;
  /** The side of the training images, in pixels; not used with buckets. */
  readonly resolution: number;
  /** The size of each row's training image, one object for each size. All images of a batch have one size. Default: squares. */
  readonly buckets?: readonly Size[] | undefined;
  /** The share of each dataset in an epoch. Default: every row once. */
  readonly mixture?: Mixture | undefined;
  /** Rows in a global batch, of all processes together, 1 or more. */
  readonly batchSize: number;
  /** The part of each global batch to read. Default: all of it. */
  readonly share?: Share | undefined;
  /**
   * The number of batches to read ahead, 1 or more; more are read where these are fewer rows than there are threads. This
   * process's rows of as many full batches are in memory besides the current batch.
   */
  readonly prefetch: number;
  /** Whether large JPEGs are decoded at a reduced size: see `readCrops`. Default: false. */
  readonly reducedDecode?: boolean | undefined;
  /** The inputs that batches contain. An image is read only if an input needs it. Default: all. */
  readonly inputs?: readonly Input[];
}

const ALL_INPUTS: readonly Input[] = ['pixelValues', 'clipPixelValues', 'inputIds'];

/**
 * The rows of a global batch that this process reads, without those whose image cannot be read: possibly none.
 * Tensors of no rows have shapes such as [0, 3, height, width].
 */
export interface Batch extends Examples {
  readonly epoch: number;
  /** The position after this batch: `batches(epoch, nextPosition)` yields the following batches. */
  readonly nextPosition: number;
  /**
   * The number of rows of the global batch, readable or not. It is below the batch size only in the last batch of an epoch
   * or of a bucket.
   */
  readonly planned: number;
  /** The rows of the global batch, as indices into the dataset. */
  readonly plannedRows: readonly number[];
  /** The index of each row in the global batch, ascending, 0 … planned - 1. What is drawn for a row is drawn by this index. */
  readonly places: readonly number[];
  /** The size of the training images. */
  readonly size: Size;
}

/** This process's samples of a batch. */
interface PlannedBatch {
  readonly samples: readonly Sample[];
  /** The size of the batch's training images. */
  readonly size: Size;
}

export class DataLoader {
  /** The rows that were skipped so far, by index into the dataset. A bad row is not read again. */
  readonly badRows = new Map<number, BadRow>();
  readonly #options: DataLoaderOptions;
  readonly #square: Size;

  constructor(options: DataLoaderOptions) {
    this.#options = options;
    this.#square = { width: options.resolution, height: options.resolution };
  }

  /** The number of global batches in an epoch, including those without a readable row. */
  get batchesPerEpoch(): number {
    const { buckets, batchSize } = this.#options;
    const { rows, buckets: mixed } = epochRows(this.#options);
    return buckets === undefined ? Math.ceil(rows / batchSize) : countBatches(mixed!, batchSize);
  }

  /**
   * Yields this process's part of every global batch of one epoch from `position` on, in the epoch's shuffled order. A row
   * that cannot be read makes its batch smaller. A batch may be empty, because other processes read its rows or because none
   * can be read.
   * Leaving the loop early (`break`, `return()`) waits for the images in flight.
   * @param position the number of rows in the epoch's order to skip: 0, or the `nextPosition` of a batch. At another
   * position, as older versions saved, a batch starts, too
   * @throws DatasetError if too many rows are bad, or all of them
   */
  async *batches(epoch: number, position = 0): AsyncGenerator<Batch, void, void> {
    const { inputs = ALL_INPUTS } = this.#options;
    for await (const { planned, loaded } of this.#pass(this.#plan(epoch, position), inputs)) {
      const { first, rows, nextPosition, size } = planned;
      const places = loaded.flatMap((example, i) => (example === null ? [] : [first + i]));
      const examples = assemble(loaded, size, inputs, this.#options);
      yield { ...examples, epoch, nextPosition, planned: rows.length, plannedRows: rows, places, size };
    }
  }

  /**
   * Yields samples in batches, in their order; with buckets, one bucket after another. It reads all of them, whatever the
   * share of this process.
   * @param inputs the inputs that the batches contain
   * @throws DatasetError if too many rows are bad, or all of them
   */
  async *read(samples: readonly Sample[], inputs: readonly Input[]): AsyncGenerator<Examples, void, void> {
    const bySize = new Map<Size, Sample[]>();
    for (const sample of samples) {
      const size = this.#sizeOf(sample.row);
      const alike = bySize.get(size) ?? [];
      alike.push(sample);
      bySize.set(size, alike);
    }
    const { batchSize } = this.#options;
    const plan = [...bySize].flatMap(([size, alike]) =>
      Array.from(
        cutBatches(alike, () => size, batchSize),
        (samples) => ({ samples, size }),
      ),
    );
    for await (const { planned, loaded } of this.#pass(plan, inputs))
      if (loaded.some((example) => example !== null))
        yield assemble(loaded, planned.size, inputs, this.#options);
  }

  /**
   * Records rows that cannot be read, such as those that other processes found.
   * @throws DatasetError if too many rows are bad, or all of them
   */
  addBadRows(badRows: Iterable<readonly [row: number, bad: BadRow]>): void {
    for (const [row, bad] of badRows) this.badRows.set(row, bad);
    const { length } = this.#options.rows;
    const limit = maxBadRows(length);
    if (this.badRows.size > limit) throw this.#tooManyBad(`at most ${limit} are skipped`);
    if (this.badRows.size === length) throw this.#tooManyBad('none can be read');
  }

  /** Yields this process's part of the global batches of an epoch. */
  *#plan(
    epoch: number,
    position: number,
  ): Generator<PlannedBatch & { rows: number[]; first: number; nextPosition: number }> {
    const { mixture, batchSize, share = { rank: 0, worldSize: 1 } } = this.#options;
    const order = epochOrder(epoch, position, { ...this.#options, ...epochRows(this.#options) });
    const mixed = (index: number): MixedRow => mixture?.at(epoch, index) ?? { row: index, draw: index };
    const sizeOf = (index: number): Size => this.#sizeOf(mixed(index).row);
    let nextPosition = position;
    for (const batch of cutBatches(order, sizeOf, batchSize)) {
      const count = batch.length;
      nextPosition += count;
      const [first, end] = shareOf(count, share);
      const rows = batch.map(mixed);
      const samples = rows.slice(first, end).map((row) => sampleOf(this.#options, epoch, row));
      yield { samples, size: sizeOf(batch[0]!), rows: rows.map(({ row }) => row), first, nextPosition };
    }
  }

  /** Returns the size of a row's training image: the same object for rows that can share a batch. */
  #sizeOf(row: number): Size {
    return this.#options.buckets?.[row] ?? this.#square;
  }

  /** Reads the planned batches ahead. Yields them with their rows, and null for each row that cannot be read. */
  async *#pass<Planned extends PlannedBatch>(
    plan: Iterable<Planned>,
    inputs: readonly Input[],
  ): AsyncGenerator<{ planned: Planned; loaded: (Example | null)[] }, void, void> {
    const { batchSize, prefetch, share } = this.#options;
    const rowsPerBatch = Math.ceil(batchSize / (share?.worldSize ?? 1));
    const load = (sample: Sample, { size }: Planned) => this.#load(sample, size, inputs);
    // Every thread has a row to read, however small the batches are.
    const ahead = Math.max(prefetch, Math.ceil(poolThreads() / rowsPerBatch));
    const limits = { samples: ahead * rowsPerBatch, batches: ahead };
    for await (const { planned, loaded } of readAhead(plan, load, limits)) {
      const examples: (Example | null)[] = [];
      for (const example of loaded) {
        const isBad = example instanceof Unreadable;
        if (isBad)
          this.addBadRows([[example.row, { file: example.error.image, reason: example.error.reason }]]);
        examples.push(isBad ? null : example);
      }
      yield { planned, loaded: examples };
    }
  }

  /** Returns null for a row that is known to be bad, or whose reference is: it is skipped in this epoch. */
  async #load(sample: Sample, size: Size, inputs: readonly Input[]): Promise<Example | Unreadable | null> {
    const isBad = [sample, ...referencesOf(sample)].some(({ row }) => this.badRows.has(row));
    return isBad ? null : readExample(sample, size, inputs, this.#options);
  }

  #tooManyBad(limit: string): DatasetError {
    const lines = [...this.badRows].map(([row, bad]) => `row ${row}: ${bad.file}: ${bad.reason}`);
    return new DatasetError(
      `Expected a readable image for every row of the dataset but ${this.badRows.size} of ` +
        `${this.#options.rows.length} are bad so far (${limit}):\n${listed(lines)}\n` +
        'Check the folder of images, then repair these files or remove their rows from the dataset.',
    );
  }
}
