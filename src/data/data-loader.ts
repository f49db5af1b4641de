/**
 * @file Loads training batches ahead of their use.
 *
 * Images are decoded and resized in Node's threads, also while LibTorch blocks the main thread, if they were started before.
 * So a queue of rows is kept in flight. Each holds its two cropped images as bytes (a quarter of the memory of floats), and
 * is converted to floats when its batch is taken.
 */
import { DatasetError } from '../base/errors.js';
import { type BadRow, listed } from '../base/listing.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { ImageError, useImage } from '../images/image.js';
import { mirror } from '../images/mirror.js';
import { type PixelTable, writePlanar } from '../images/pixels.js';
import { TRAIN_PIXELS, trainCropAsync } from '../images/train-transform.js';
import type { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import { maxBadRows } from './bad-rows.js';
import { bucketedOrder, countBatches } from './buckets.js';
import type { Rows } from './dataset.js';
import { captionFor, type Drop, dropFor, flipFor, shuffledIndices } from './sampling.js';

export interface DataLoaderOptions {
  readonly rows: Rows;
  readonly tokenizer: PromptTokenizer;
  readonly imageProcessor: ClipImageProcessor;
  /** The side of the training images, in pixels; not used with buckets. */
  readonly resolution: number;
  /** The size of each row's training image, one object for each size. All images of a batch have one size. Default: squares. */
  readonly buckets?: readonly Size[] | undefined;
  /** Whether half of the rows are mirrored in each epoch, both images of a row together. Default: false. */
  readonly randomFlip?: boolean;
  /** Rows in a batch, 1 or more. */
  readonly batchSize: number;
  /** The number of batches to read ahead, 1 or more. `prefetch × batchSize` images are in memory besides the current batch. */
  readonly prefetch: number;
  /** Decides the order, the drops, the captions and the mirroring of every epoch. */
  readonly seed: number;
  /** The inputs that batches contain. An image is read only if an input needs it. Default: all. */
  readonly inputs?: readonly Input[];
}

/** The inputs of the encoders: the image for the VAE, the prompt image for CLIP, the caption. */
export type Input = 'pixelValues' | 'clipPixelValues' | 'inputIds';
const ALL_INPUTS: readonly Input[] = ['pixelValues', 'clipPixelValues', 'inputIds'];

/** Values in row-major order and their shape, the arguments of `tensor(data, shape)`. */
interface Values<T> {
  readonly data: T;
  readonly shape: readonly number[];
}

/** b rows of the dataset. Inputs that were not requested are null. */
export interface Examples {
  /** [b, 3, height, width], in [-1, 1], of the resolution or the size of the rows' bucket. */
  readonly pixelValues: Values<Float32Array> | null;
  /** [b, 3, c, c], normalised as for CLIP; zeros where the image is dropped. */
  readonly clipPixelValues: Values<Float32Array> | null;
  /** [b, …tokenizer.shape], for one text encoder [b, 77]; the tokens of the empty caption where the text is dropped. */
  readonly inputIds: Values<BigInt64Array> | null;
  /** The conditions that each row of the batch drops. */
  readonly drops: readonly Drop[];
  /** Indices into the dataset, by row of the batch. */
  readonly rows: readonly number[];
  /** The caption of each row of the batch; empty where the text is dropped. */
  readonly captions: readonly string[];
  /** Whether each row's images are mirrored. */
  readonly flips: readonly boolean[];
}

/** One use of a row of the dataset. */
export interface Sample {
  /** Index into the dataset. */
  readonly row: number;
  readonly drop: Drop;
  /** Empty where the text is dropped. */
  readonly caption: string;
  /** Whether the images are mirrored. */
  readonly flip: boolean;
}

/** A batch of b rows. b is below the batch size only in the last batch of an epoch or of a bucket. */
export interface Batch extends Examples {
  readonly epoch: number;
  /** The position after this batch: `batches(epoch, nextPosition)` yields the following batches. */
  readonly nextPosition: number;
}

/** A row with its images cropped for each model. A crop is null if it is dropped or was not requested. */
interface Example extends Sample {
  readonly crop: RgbImage | null;
  readonly clipCrop: RgbImage | null;
}

/** An ordered list of samples, and the inputs to read. */
interface Pass {
  readonly length: number;
  readonly sampleAt: (position: number) => Sample;
  readonly inputs: readonly Input[];
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

  /** The number of batches in an epoch without bad rows. */
  get batchesPerEpoch(): number {
    const { rows, buckets, batchSize } = this.#options;
    return buckets === undefined ? Math.ceil(rows.length / batchSize) : countBatches(buckets, batchSize);
  }

  /**
   * Yields the batches of one epoch from `position` on, in the epoch's shuffled order. A row that cannot be read is
   * skipped, and the next row of the same bucket takes its place.
   * Leaving the loop early (`break`, `return()`) waits for the images in flight.
   * @param position the number of rows in the epoch's order to skip: 0, or the `nextPosition` of a batch
   * @throws DatasetError if too many rows are bad, or all rows of an epoch
   */
  async *batches(epoch: number, position = 0): AsyncGenerator<Batch, void, void> {
    const { rows, buckets, batchSize, seed, inputs = ALL_INPUTS } = this.#options;
    const order =
      buckets === undefined
        ? shuffledIndices(seed, epoch, rows.length)
        : bucketedOrder(seed, epoch, buckets, batchSize);
    const sampleAt = (position: number) => this.#sample(epoch, order[position]!);
    let anyReadable = false;
    for await (const batch of this.#pass({ length: rows.length, sampleAt, inputs }, position)) {
      anyReadable = true;
      yield { ...batch, epoch };
    }
    if (position === 0 && !anyReadable) throw this.#tooManyBad('none can be read');
  }

  /**
   * Yields samples in batches, in their order; with buckets, one bucket after another.
   * @param inputs the inputs that the batches contain
   * @throws DatasetError if too many rows are bad
   */
  read(samples: readonly Sample[], inputs: readonly Input[]): AsyncGenerator<Examples, void, void> {
    const bySize = new Map<Size, Sample[]>();
    for (const sample of samples) {
      const size = this.#sizeOf(sample.row);
      const alike = bySize.get(size) ?? [];
      alike.push(sample);
      bySize.set(size, alike);
    }
    const ordered = [...bySize.values()].flat();
    return this.#pass({ length: ordered.length, sampleAt: (i) => ordered[i]!, inputs }, 0);
  }

  /** Returns the size of a row's training image: the same object for rows that can share a batch. */
  #sizeOf(row: number): Size {
    return this.#options.buckets?.[row] ?? this.#square;
  }

  #sample(epoch: number, row: number): Sample {
    const { rows, seed, randomFlip = false } = this.#options;
    const { captions } = rows.at(row)!;
    const drop = dropFor(seed, epoch, row);
    const caption = drop.dropText ? '' : captions[captionFor(seed, epoch, row, captions.length)]!;
    return { row, drop, caption, flip: randomFlip && flipFor(seed, epoch, row) };
  }

  async *#pass(pass: Pass, position: number): AsyncGenerator<Omit<Batch, 'epoch'>, void, void> {
    const { batchSize, prefetch } = this.#options;
    const inFlight: Promise<Example | ImageError | null>[] = [];
    let started = position;
    const startMore = () => {
      while (inFlight.length < prefetch * batchSize && started < pass.length) {
        const example = this.#load(pass.sampleAt(started++), pass.inputs);
        // The error is handled when the row's turn comes. Without this handler Node would end the process before.
        example.catch(() => {});
        inFlight.push(example);
      }
    };

    let examples: Example[] = [];
    try {
      for (let next = position; next < pass.length; next++) {
        startMore();
        const example = await inFlight.shift()!;
        const { row } = pass.sampleAt(next);
        if (example instanceof ImageError) this.#recordBad(row, example);
        else if (example !== null) examples.push(example);
        const isLast =
          next === pass.length - 1 || this.#sizeOf(pass.sampleAt(next + 1).row) !== this.#sizeOf(row);
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
   * Reads and crops the images of one row that an input needs. Returns null for a row that is known to be bad.
   * A dropped image is read as well, so that it does not depend on the epoch whether a row is bad.
   */
  async #load(sample: Sample, inputs: readonly Input[]): Promise<Example | ImageError | null> {
    if (this.badRows.has(sample.row)) return null;
    const { rows, imageProcessor } = this.#options;
    const { image, promptImage } = rows.at(sample.row)!;
    const target = (decoded: RgbImage) => trainCropAsync(decoded, this.#sizeOf(sample.row));
    const prompt = async (decoded: RgbImage) =>
      sample.drop.dropImage ? null : imageProcessor.cropAsync(decoded);
    const [wantsTarget, wantsPrompt] = [inputs.includes('pixelValues'), inputs.includes('clipPixelValues')];
    try {
      let crops: readonly [RgbImage | null, RgbImage | null];
      if (wantsTarget && wantsPrompt && promptImage.name === image.name)
        crops = await useImage(image, (decoded) => Promise.all([target(decoded), prompt(decoded)]));
      else {
        const reading = wantsTarget ? useImage(image, target) : null;
        const readingPrompt = wantsPrompt ? useImage(promptImage, prompt) : null;
        // If both fail, the error of the training image is reported, whichever fails first.
        readingPrompt?.catch(() => {});
        crops = [await reading, await readingPrompt];
      }
      const [crop, clipCrop] = crops;
      const flipped = (crop: RgbImage | null) => (crop !== null && sample.flip ? mirror(crop) : crop);
      return { ...sample, crop: flipped(crop), clipCrop: flipped(clipCrop) };
    } catch (error) {
      if (error instanceof ImageError) return error;
      throw error;
    }
  }

  #recordBad(row: number, { image, reason }: ImageError): void {
    this.badRows.set(row, { file: image, reason });
    const limit = maxBadRows(this.#options.rows.length);
    if (this.badRows.size > limit) throw this.#tooManyBad(`at most ${limit} are skipped`);
  }

  #tooManyBad(limit: string): DatasetError {
    const lines = [...this.badRows].map(([row, bad]) => `row ${row}: ${bad.file}: ${bad.reason}`);
    return new DatasetError(
      `Expected a readable image for every row of the dataset but ${this.badRows.size} of ` +
        `${this.#options.rows.length} are bad so far (${limit}):\n${listed(lines)}\n` +
        'Check the folder of images, then repair these files or remove their rows from the dataset.',
    );
  }

  #assemble(examples: readonly Example[], inputs: readonly Input[]): Examples {
    const { imageProcessor } = this.#options;
    const where = <T>(input: Input, make: () => T): T | null => (inputs.includes(input) ? make() : null);
    return {
      pixelValues: where('pixelValues', () => {
        const crops = examples.map(({ crop }) => crop);
        return planar(crops, TRAIN_PIXELS, this.#sizeOf(examples[0]!.row));
      }),
      clipPixelValues: where('clipPixelValues', () => {
        const crops = examples.map(({ clipCrop }) => clipCrop);
        const { pixels, cropSize } = imageProcessor;
        return planar(crops, pixels, { width: cropSize, height: cropSize });
      }),
      inputIds: where('inputIds', () => this.#tokenize(examples)),
      drops: examples.map(({ drop }) => drop),
      rows: examples.map(({ row }) => row),
      captions: examples.map(({ caption }) => caption),
      flips: examples.map(({ flip }) => flip),
    };
  }

  #tokenize(examples: readonly Example[]): Values<BigInt64Array> {
    const { tokenizer } = this.#options;
    const ids = examples.flatMap(({ caption }) => tokenizer.encode(caption));
    return { data: BigInt64Array.from(ids, BigInt), shape: [examples.length, ...tokenizer.shape] };
  }
}

/** Returns images of one size as [b, 3, height, width]; zeros in place of null. */
function planar(
  images: readonly (RgbImage | null)[],
  table: PixelTable,
  { width, height }: Size,
): Values<Float32Array> {
  const values = 3 * width * height;
  const data = new Float32Array(images.length * values);
  images.forEach((image, i) => {
    if (image !== null) writePlanar(image, table, data, i * values);
  });
  return { data, shape: [images.length, 3, height, width] };
}
