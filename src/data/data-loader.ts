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
import { type PixelTable, writePlanar } from './pixels.js';
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
  /** What batches hold; where that is nothing of the pictures, none is read. Default: everything. */
  readonly inputs?: readonly Input[];
}

/** What the encoders take: the picture for the VAE, the picture for CLIP, the caption. */
export type Input = 'pixelValues' | 'clipPixelValues' | 'inputIds';
const ALL_INPUTS: readonly Input[] = ['pixelValues', 'clipPixelValues', 'inputIds'];

/** Values in row-major order and their shape: what `tensor(data, shape)` takes. */
interface Values<T> {
  readonly data: T;
  readonly shape: readonly number[];
}

/** b rows of the dataset; an input that was not asked for is null. */
export interface Examples {
  /** [b, 3, resolution, resolution], in [-1, 1]. */
  readonly pixelValues: Values<Float32Array> | null;
  /** [b, 3, c, c] as CLIP normalises; all zero where the image is dropped. */
  readonly clipPixelValues: Values<Float32Array> | null;
  /** [b, 77]; the empty caption where the text is dropped. */
  readonly inputIds: Values<BigInt64Array> | null;
  /** What each row of the batch drops. */
  readonly drops: readonly Drop[];
  /** Indices into the dataset, by row of the batch. */
  readonly rows: readonly number[];
}

/** One batch of b rows; b is below the batch size only in an epoch's last batch. */
export interface Batch extends Examples {
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

/** A row with its picture cropped for each model; null where it is dropped or was not asked for. */
interface Example {
  readonly row: number;
  readonly drop: Drop;
  readonly picture: RgbImage | null;
  readonly clipPicture: RgbImage | null;
}

/** Rows in an order, what each drops, and what is wanted of them. */
interface Pass {
  readonly order: ArrayLike<number>;
  readonly dropOf: (row: number) => Drop;
  readonly inputs: readonly Input[];
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
    const { rows, seed, inputs = ALL_INPUTS } = this.#options;
    const order = shuffledIndices(seed, epoch, rows.length);
    const dropOf = (row: number) => dropFor(seed, epoch, row);
    let anyReadable = false;
    for await (const batch of this.#pass({ order, dropOf, inputs }, position)) {
      anyReadable = true;
      yield { ...batch, epoch };
    }
    if (position === 0 && !anyReadable) throw this.#tooManyBad('none can be read');
  }

  /**
   * The given rows in batches, in their order, all with the same drop.
   * @param inputs what the batches hold
   * @throws DatasetError when too many rows are bad
   */
  read(order: readonly number[], drop: Drop, inputs: readonly Input[]): AsyncGenerator<Examples, void, void> {
    return this.#pass({ order, dropOf: () => drop, inputs }, 0);
  }

  async *#pass(pass: Pass, position: number): AsyncGenerator<Omit<Batch, 'epoch'>, void, void> {
    const { batchSize, prefetch } = this.#options;
    const { order } = pass;
    const inFlight: Promise<Example | PictureError | null>[] = [];
    let started = position;
    const startMore = () => {
      while (inFlight.length < prefetch * batchSize && started < order.length) {
        const example = this.#load(pass, order[started++]!);
        // Seen when its turn comes; until then nobody waits for it, and Node would end the process.
        example.catch(() => {});
        inFlight.push(example);
      }
    };

    let examples: Example[] = [];
    try {
      for (let next = position; next < order.length; next++) {
        startMore();
        const example = await inFlight.shift()!;
        if (example instanceof PictureError) this.#recordBad(order[next]!, example);
        else if (example !== null) examples.push(example);
        const isLast = next === order.length - 1;
        if (examples.length === batchSize || (isLast && examples.length > 0)) {
          startMore();
          yield { ...this.#assemble(examples, pass.inputs), nextPosition: next + 1 };
          examples = [];
        }
      }
    } finally {
      await Promise.allSettled(inFlight);
    }
  }

  /** Reads and crops one row's picture, where the pass wants it. Null where the row is known to be bad. */
  async #load({ dropOf, inputs }: Pass, row: number): Promise<Example | PictureError | null> {
    if (this.badRows.has(row)) return null;
    const { rows, resolution, imageProcessor } = this.#options;
    const drop = dropOf(row);
    if (!inputs.some((input) => input !== 'inputIds')) return { row, drop, picture: null, clipPicture: null };
    let image: RgbImage;
    try {
      image = await readPicture(rows[row]!.imageFile);
    } catch (error) {
      if (error instanceof PictureError) return error;
      throw error;
    }
    const picture = inputs.includes('pixelValues') ? trainCrop(image, resolution) : null;
    const isClipWanted = inputs.includes('clipPixelValues') && !drop.dropImage;
    return { row, drop, picture, clipPicture: isClipWanted ? imageProcessor.crop(image) : null };
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

  #assemble(examples: readonly Example[], inputs: readonly Input[]): Examples {
    const { imageProcessor, resolution } = this.#options;
    const where = <T>(input: Input, make: () => T): T | null => (inputs.includes(input) ? make() : null);
    return {
      pixelValues: where('pixelValues', () => {
        const pictures = examples.map(({ picture }) => picture);
        return planar(pictures, TRAIN_PIXELS, resolution);
      }),
      clipPixelValues: where('clipPixelValues', () => {
        const pictures = examples.map(({ clipPicture }) => clipPicture);
        return planar(pictures, imageProcessor.pixels, imageProcessor.cropSize);
      }),
      inputIds: where('inputIds', () => this.#tokenize(examples)),
      drops: examples.map(({ drop }) => drop),
      rows: examples.map(({ row }) => row),
    };
  }

  #tokenize(examples: readonly Example[]): Values<BigInt64Array> {
    const { rows, tokenizer } = this.#options;
    const data = new BigInt64Array(examples.length * tokenizer.maxLength);
    examples.forEach(({ row, drop }, i) => {
      const caption = drop.dropText ? '' : rows[row]!.text;
      data.set(tokenizer.encode(caption).map(BigInt), i * tokenizer.maxLength);
    });
    return { data, shape: [examples.length, tokenizer.maxLength] };
  }
}

/** [b, 3, side, side] of square pictures; zero where there is none. */
function planar(
  pictures: readonly (RgbImage | null)[],
  table: PixelTable,
  side: number,
): Values<Float32Array> {
  const data = new Float32Array(pictures.length * 3 * side ** 2);
  pictures.forEach((picture, i) => {
    if (picture !== null) writePlanar(picture, table, data, i * 3 * side ** 2);
  });
  return { data, shape: [pictures.length, 3, side, side] };
}
