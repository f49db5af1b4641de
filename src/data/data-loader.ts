/**
 * @file Training batches, read ahead of their use.
 *
 * sharp decodes pictures in libuv's threads, also while the engine holds the main thread; the next rows only have
 * to be started before the engine is called. So a queue of rows is kept in flight: each holds the two cropped
 * pictures as bytes (a quarter of the floats' memory), and becomes floats when its batch is taken.
 */
import { DatasetError } from '../errors.js';
import type { ClipImageProcessor } from './clip-image-processor.js';
import type { ClipTokenizer } from './clip-tokenizer.js';
import type { DatasetRow } from './dataset.js';
import { PictureError, type RgbImage, readPicture } from './image.js';
import { writePlanar } from './pixels.js';
import { type Drop, dropFor, shuffledIndices } from './sampling.js';
import { TRAIN_PIXELS, trainCrop } from './train-transform.js';

export interface DataLoaderOptions {
  readonly rows: readonly DatasetRow[];
  readonly tokenizer: ClipTokenizer;
  readonly imageProcessor: ClipImageProcessor;
  /** Side of the training pictures, in pixels. */
  readonly resolution: number;
  /** Rows in a batch, 1 or more. */
  readonly batchSize: number;
  /** Batches read ahead, 1 or more; memory holds `prefetch × batchSize` pictures besides the batch in use. */
  readonly prefetch: number;
  /** Decides the order and the drops of every epoch. */
  readonly seed: number;
}

/** Values in row-major order and their shape: what `tensor(data, shape)` takes. */
interface Values<T> {
  readonly data: T;
  readonly shape: readonly number[];
}

/** One batch of b rows; b is below the batch size only in an epoch's last batch. */
export interface Batch {
  /** [b, 3, resolution, resolution], in [-1, 1]. */
  readonly pixelValues: Values<Float32Array>;
  /** [b, 3, c, c] as CLIP normalises; all zero where the image is dropped. */
  readonly clipPixelValues: Values<Float32Array>;
  /** [b, 77]; the empty caption where the text is dropped. */
  readonly inputIds: Values<BigInt64Array>;
  /** Whether the image condition is dropped, by row of the batch. */
  readonly dropImage: readonly boolean[];
  /** Indices into the dataset, by row of the batch. */
  readonly rows: readonly number[];
  readonly epoch: number;
  /** Where the epoch goes on after this batch: `batches(epoch, nextPosition)` yields the batches that follow. */
  readonly nextPosition: number;
}

/** A row whose picture cannot be read. */
export interface BadRow {
  readonly file: string;
  readonly reason: string;
}

/** Bad rows that are always borne, and the share of the dataset beyond which a run stops. */
const BAD_ROWS_BORNE = 8;
const BAD_SHARE_BORNE = 0.1;

/** How many bad rows an error names. */
const SHOWN_ROWS = 5;

/** A row with its picture cropped for both models; the CLIP picture is left out where it is dropped. */
interface Example {
  readonly row: number;
  readonly drop: Drop;
  readonly picture: RgbImage;
  readonly clipPicture: RgbImage | null;
}

export class DataLoader {
  /** Rows that were skipped so far, by index into the dataset; each is read, and recorded, once. */
  readonly badRows = new Map<number, BadRow>();
  readonly #options: DataLoaderOptions;

  constructor(options: DataLoaderOptions) {
    this.#options = options;
  }

  /**
   * The batches of one epoch from `position` on, in the epoch's shuffled order. A row that cannot be read is
   * skipped and the next one takes its place.
   * Leaving the loop early (`break`, `return()`) waits for the pictures in flight and leaves nothing running.
   * @param position how many rows of the epoch's order are used up: 0, or a batch's `nextPosition`
   * @throws DatasetError when too many rows are bad, or all of an epoch
   */
  async *batches(epoch: number, position = 0): AsyncGenerator<Batch, void, void> {
    const { rows, batchSize, prefetch, seed } = this.#options;
    const order = shuffledIndices(seed, epoch, rows.length);
    const inFlight: Promise<Example | PictureError | null>[] = [];
    let started = position;
    const startMore = () => {
      while (inFlight.length < prefetch * batchSize && started < order.length) {
        const example = this.#load(epoch, order[started++]!);
        // Seen when its turn comes; until then nobody waits for it, and Node would end the process.
        example.catch(() => {});
        inFlight.push(example);
      }
    };

    let examples: Example[] = [];
    let anyReadable = false;
    try {
      for (let next = position; next < order.length; next++) {
        startMore();
        const example = await inFlight.shift()!;
        if (example instanceof PictureError) this.#recordBad(order[next]!, example);
        else if (example !== null) examples.push(example);
        const isLast = next === order.length - 1;
        if (examples.length === batchSize || (isLast && examples.length > 0)) {
          startMore();
          anyReadable = true;
          yield this.#assemble(examples, epoch, next + 1);
          examples = [];
        }
      }
      if (position === 0 && !anyReadable) throw this.#tooManyBad('none can be read');
    } finally {
      await Promise.allSettled(inFlight);
    }
  }

  /** Reads and crops one row's picture. Null where the row is known to be bad. */
  async #load(epoch: number, row: number): Promise<Example | PictureError | null> {
    if (this.badRows.has(row)) return null;
    const { rows, seed, resolution, imageProcessor } = this.#options;
    const drop = dropFor(seed, epoch, row);
    let image: RgbImage;
    try {
      image = await readPicture(rows[row]!.imageFile);
    } catch (error) {
      if (error instanceof PictureError) return error;
      throw error;
    }
    const clipPicture = drop.dropImage ? null : imageProcessor.crop(image);
    return { row, drop, picture: trainCrop(image, resolution), clipPicture };
  }

  #recordBad(row: number, { reason }: PictureError): void {
    this.badRows.set(row, { file: this.#options.rows[row]!.imageFile, reason });
    const borne = Math.max(BAD_ROWS_BORNE, Math.floor(BAD_SHARE_BORNE * this.#options.rows.length));
    if (this.badRows.size > borne) throw this.#tooManyBad(`at most ${borne} are skipped`);
  }

  #tooManyBad(limit: string): DatasetError {
    const shown = [...this.badRows]
      .slice(0, SHOWN_ROWS)
      .map(([row, bad]) => `  row ${row}: ${bad.file}: ${bad.reason}`);
    const more = this.badRows.size > shown.length ? `\n  and ${this.badRows.size - shown.length} more` : '';
    return new DatasetError(
      `Expected a readable picture for every row of the dataset but ${this.badRows.size} of ` +
        `${this.#options.rows.length} are bad so far (${limit}):\n${shown.join('\n')}${more}\n` +
        'Check the folder of pictures, then mend these files or take their rows out of the dataset.',
    );
  }

  #assemble(examples: readonly Example[], epoch: number, nextPosition: number): Batch {
    const { rows, tokenizer, imageProcessor, resolution } = this.#options;
    const b = examples.length;
    const side = imageProcessor.cropSize;
    const pixels = new Float32Array(b * 3 * resolution ** 2);
    const clipPixels = new Float32Array(b * 3 * side ** 2);
    const ids = new BigInt64Array(b * tokenizer.maxLength);
    examples.forEach(({ row, drop, picture, clipPicture }, i) => {
      writePlanar(picture, TRAIN_PIXELS, pixels, i * 3 * resolution ** 2);
      if (clipPicture !== null)
        writePlanar(clipPicture, imageProcessor.pixels, clipPixels, i * 3 * side ** 2);
      const caption = drop.dropText ? '' : rows[row]!.text;
      ids.set(tokenizer.encode(caption).map(BigInt), i * tokenizer.maxLength);
    });
    return {
      pixelValues: { data: pixels, shape: [b, 3, resolution, resolution] },
      clipPixelValues: { data: clipPixels, shape: [b, 3, side, side] },
      inputIds: { data: ids, shape: [b, tokenizer.maxLength] },
      dropImage: examples.map(({ drop }) => drop.dropImage),
      rows: examples.map(({ row }) => row),
      epoch,
      nextPosition,
    };
  }
}
