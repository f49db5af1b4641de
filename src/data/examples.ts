/** @file The rows of a batch as the encoders take them. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import type { ImageProcessor } from '../images/image-processor.js';
import { PixelValues } from '../images/pixels.js';
import { TRAIN_PIXELS } from '../images/train-transform.js';
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import type { Drop } from './sampling.js';

/** The inputs of the encoders: the image for the VAE, the prompt image for CLIP, the caption; and the masks of the loss. */
export type Input = 'pixelValues' | 'clipPixelValues' | 'inputIds' | 'lossMasks';

/** Values in row-major order and their shape, the arguments of `tensor(data, shape)`. */
interface Values<T> {
  readonly data: T;
  readonly shape: readonly number[];
}

/** b rows of the dataset. Inputs that were not requested are null. */
export interface Examples {
  /** [b, 3, height, width], in [-1, 1], of the resolution or the size of the rows' bucket. */
  readonly pixelValues: PixelValues | null;
  /** [b × references, 3, c, c], those of a row together, normalised as for CLIP; zeros where the image is dropped. */
  readonly clipPixelValues: PixelValues | null;
  /** [b, …tokenizer.shape], for one text encoder [b, 77]; the tokens of the empty caption where the text is dropped. */
  readonly inputIds: Values<BigInt64Array> | null;
  /** [b, 1, height, width], 0 … 1: where the loss of each row counts, as large as its training image. */
  readonly lossMasks: Values<Float32Array> | null;
  /** The conditions that each row of the batch drops. */
  readonly drops: readonly Drop[];
  /** Indices into the dataset, by row of the batch. */
  readonly rows: readonly number[];
  /** The caption of each row of the batch; empty where the text is dropped. */
  readonly captions: readonly string[];
  /** Whether each row's images are mirrored. */
  readonly flips: readonly boolean[];
  /** The references of each row of the batch. */
  readonly references: readonly (readonly Reference[])[];
}

/** A reference image of a sample: that of a row, of its group or its own. */
export interface Reference {
  /** Index into the dataset. */
  readonly row: number;
  /** Decides how it is varied at random. Undefined: it is not. */
  readonly variant?: number | undefined;
}

/** One use of a row of the dataset. */
export interface Sample {
  /** Index into the dataset. */
  readonly row: number;
  /** One or more, as many for each row of a batch. Default: the row's own. */
  readonly references?: readonly Reference[] | undefined;
  readonly drop: Drop;
  /** Empty where the text is dropped. */
  readonly caption: string;
  /** Whether the images are mirrored. */
  readonly flip: boolean;
}

/** Returns the references of a sample. */
export function referencesOf({ row, references }: Sample): readonly Reference[] {
  return references ?? [{ row }];
}

/** A row with its images cropped for each model. A crop is null if it is dropped or was not requested. */
export interface Example extends Sample {
  readonly crop: RgbImage | null;
  /** Of each reference. */
  readonly clipCrops: readonly (RgbImage | null)[];
  /** The greys of the row's mask, as large as the crop; null: everything counts, or it was not requested. */
  readonly mask: Uint8Array | null;
}

/**
 * Returns the examples that came of a batch's samples.
 * @param loaded null for a sample whose image could not be read
 * @param size the size of the training images
 * @param inputs the inputs that the batch contains; their crops are in the examples
 */
export function assemble(
  loaded: readonly (Example | null)[],
  size: Size,
  inputs: readonly Input[],
  { imageProcessor, tokenizer }: { imageProcessor: ImageProcessor; tokenizer: PromptTokenizer },
): Examples {
  const examples = loaded.filter((example) => example !== null);
  const where = <T>(input: Input, make: () => T): T | null => (inputs.includes(input) ? make() : null);
  return {
    pixelValues: where('pixelValues', () => {
      const crops = examples.map(({ crop }) => crop);
      return new PixelValues(crops, TRAIN_PIXELS, size);
    }),
    clipPixelValues: where('clipPixelValues', () => {
      const crops = examples.flatMap(({ clipCrops }) => clipCrops);
      return imageProcessor.normalized(crops);
    }),
    inputIds: where('inputIds', () => {
      const ids = examples.flatMap(({ caption }) => tokenizer.encode(caption));
      return { data: BigInt64Array.from(ids, BigInt), shape: [examples.length, ...tokenizer.shape] };
    }),
    lossMasks: where('lossMasks', () => {
      const masks = examples.map(({ mask }) => mask);
      return lossMasks(masks, size);
    }),
    drops: examples.map(({ drop }) => drop),
    rows: examples.map(({ row }) => row),
    captions: examples.map(({ caption }) => caption),
    flips: examples.map(({ flip }) => flip),
    references: examples.map(referencesOf),
  };
}

/** Returns masks of one size as [b, 1, height, width]; ones in place of null. */
function lossMasks(masks: readonly (Uint8Array | null)[], { width, height }: Size): Values<Float32Array> {
  const data = new Float32Array(masks.length * width * height).fill(1);
  masks.forEach((mask, i) => {
    mask?.forEach((grey, at) => {
      data[i * width * height + at] = grey / 255;
    });
  });
  return { data, shape: [masks.length, 1, height, width] };
}
