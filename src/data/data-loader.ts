/**
 * @file Training batches, read ahead of their use.
 *
 * sharp decodes pictures in libuv's threads, also while the engine holds the main thread; the next rows only have
 * to be started before the engine is called. So a queue of rows is kept in flight: each holds the two cropped
 * pictures as bytes (a quarter of the floats' memory), and becomes floats when its batch is taken.
 */
import { DatasetError } from '../errors.js';
import { type BadRow, borneBadRows, listed } from './bad-rows.js';
import type { ClipImageProcessor } from './clip-image-processor.js';
import type { ClipTokenizer } from './clip-tokenizer.js';
import type { Rows } from './dataset.js';
import { PictureError, type RgbImage, readPicture } from './image.js';
import { type PixelTable, writePlanar } from './pixels.js';
import { captionFor, type Drop, dropFor, shuffledIndices } from './sampling.js';
import { TRAIN_PIXELS, trainCrop } from './train-transform.js';

export interface DataLoaderOptions {
  readonly rows: Rows;
  readonly tokenizer: ClipTokenizer;
  readonly imageProcessor: ClipImageProcessor;
  /** Side of the training pictures, in pixels. */
  readonly resolution: number;
  /** Rows in a batch, 1 or more. */
  readonly batchSize: number;
  /** Batches read ahead, 1 or more; memory holds `prefetch × batchSize` pictures besides the batch in use. */
  readonly prefetch: number;
  /** Decides the order, the drops and the captions of every epoch. */
  readonly seed: number;
  /** What batches hold; where that is nothing of the pictures, none is read. Default: everything. */
  readonly inputs?: readonly Input[];
}

/** What the encoders take: the picture for the VAE, the prompt picture for CLIP, the caption. */
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
  /** The caption of each row of the batch; empty where the text is dropped. */
  readonly captions: readonly string[];
}

/** A row of the dataset as it is used once. */
export interface Sample {
  /** Index into the dataset. */
  readonly row: number;
  readonly drop: Drop;
  /** Empty where the text is dropped. */
  readonly caption: string;
}

/** One batch of b rows; b is below the batch size only in an epoch's last batch. */
export interface Batch extends Examples {
  readonly epoch: number;
  /** Where the epoch goes on after this batch: `batches(epoch, nextPosition)` yields the batches that follow. */
  readonly nextPosition: number;
}

/** A row with its pictures cropped for each model; null where one is dropped or was not asked for. */
interface Example extends Sample {
  readonly picture: RgbImage | null;
  readonly clipPicture: RgbImage | null;
}

/** Samples in an order, and what is wanted of them. */
interface Pass {
  readonly length: number;
  readonly sampleAt: (position: number) => Sample;
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
    const sampleAt = (position: number) => this.#sample(epoch, order[position]!);
    let anyReadable = false;
    for await (const batch of this.#pass({ length: rows.length, sampleAt, inputs }, position)) {
      anyReadable = true;
      yield { ...batch, epoch };
    }
    if (position === 0 && !anyReadable) throw this.#tooManyBad('none can be read');
  }

  /**
   * The given samples in batches, in their order.
   * @param inputs what the batches hold
   * @throws DatasetError when too many rows are bad
   */
  read(samples: readonly Sample[], inputs: readonly Input[]): AsyncGenerator<Examples, void, void> {
    return this.#pass({ length: samples.length, sampleAt: (i) => samples[i]!, inputs }, 0);
  }

  #sample(epoch: number, row: number): Sample {
    const { rows, seed } = this.#options;
    const { captions } = rows.at(row)!;
    const drop = dropFor(seed, epoch, row);
    const caption = drop.dropText ? '' : captions[captionFor(seed, epoch, row, captions.length)]!;
    return { row, drop, caption };
  }

  async *#pass(pass: Pass, position: number): AsyncGenerator<Omit<Batch, 'epoch'>, void, void> {
    const { batchSize, prefetch } = this.#options;
    const inFlight: Promise<Example | PictureError | null>[] = [];
    let started = position;
    const startMore = () => {
      while (inFlight.length < prefetch * batchSize && started < pass.length) {
        const example = this.#load(pass.sampleAt(started++), pass.inputs);
        // Seen when its turn comes; until then nobody waits for it, and Node would end the process.
        example.catch(() => {});
        inFlight.push(example);
      }
    };

    let examples: Example[] = [];
    try {
      for (let next = position; next < pass.length; next++) {
        startMore();
        const example = await inFlight.shift()!;
        if (example instanceof PictureError) this.#recordBad(pass.sampleAt(next).row, example);
        else if (example !== null) examples.push(example);
        const isLast = next === pass.length - 1;
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

  /**
   * Reads and crops one row's pictures, where they are wanted. Null where the row is known to be bad.
   * A dropped picture is read as well: whether a row is bad must not depend on the epoch.
   */
  async #load(sample: Sample, inputs: readonly Input[]): Promise<Example | PictureError | null> {
    if (this.badRows.has(sample.row)) return null;
    const { rows, resolution, imageProcessor } = this.#options;
    const { image, promptImage } = rows.at(sample.row)!;
    const reading = inputs.includes('pixelValues') ? readPicture(image) : null;
    let readingPrompt: Promise<RgbImage> | null = null;
    if (inputs.includes('clipPixelValues'))
      readingPrompt =
        promptImage.name === image.name && reading !== null ? reading : readPicture(promptImage);
    // The first to be awaited tells what is wrong with the row, whichever comes first.
    readingPrompt?.catch(() => {});
    try {
      const [picture, prompt] = [await reading, await readingPrompt];
      return {
        ...sample,
        picture: picture && trainCrop(picture, resolution),
        clipPicture: prompt && !sample.drop.dropImage ? imageProcessor.crop(prompt) : null,
      };
    } catch (error) {
      if (error instanceof PictureError) return error;
      throw error;
    }
  }

  #recordBad(row: number, { picture, reason }: PictureError): void {
    this.badRows.set(row, { file: picture, reason });
    const borne = borneBadRows(this.#options.rows.length);
    if (this.badRows.size > borne) throw this.#tooManyBad(`at most ${borne} are skipped`);
  }

  #tooManyBad(limit: string): DatasetError {
    const lines = [...this.badRows].map(([row, bad]) => `row ${row}: ${bad.file}: ${bad.reason}`);
    return new DatasetError(
      `Expected a readable picture for every row of the dataset but ${this.badRows.size} of ` +
        `${this.#options.rows.length} are bad so far (${limit}):\n${listed(lines)}\n` +
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
      captions: examples.map(({ caption }) => caption),
    };
  }

  #tokenize(examples: readonly Example[]): Values<BigInt64Array> {
    const { tokenizer } = this.#options;
    const data = new BigInt64Array(examples.length * tokenizer.maxLength);
    examples.forEach(({ caption }, i) => {
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
