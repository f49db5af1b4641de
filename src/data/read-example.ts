/** @file Reads the images of one row as the encoders take them. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { ImageError } from '../images/image.js';
import type { ImageProcessor } from '../images/image-processor.js';
import { mirror } from '../images/mirror.js';
import { type CropPlanner, readCrops } from '../images/read-crops.js';
import { trainResizing } from '../images/train-transform.js';
import type { Rows } from './dataset.js';
import { type Example, type Input, referencesOf, type Sample } from './examples.js';

/** A row whose image cannot be read. */
export class Unreadable {
  constructor(
    readonly row: number,
    readonly error: ImageError,
  ) {}
}

/** Names the row of an image that cannot be read: a reference may be another row's. */
async function ofRow<T>(row: number, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    throw error instanceof ImageError ? new Unreadable(row, error) : error;
  }
}

export interface ReadOptions {
  readonly rows: Rows;
  readonly imageProcessor: ImageProcessor;
  /** Whether large JPEGs are decoded at a reduced size: see `readCrops`. Default: false. */
  readonly reducedDecode?: boolean | undefined;
}

/**
 * Reads and crops the images of one row that an input needs.
 * A dropped image is read as well, so that it does not depend on the epoch whether a row is bad.
 * @param size of the training image
 */
export async function readExample(
  sample: Sample,
  size: Size,
  inputs: readonly Input[],
  { rows, imageProcessor, reducedDecode: reduced }: ReadOptions,
): Promise<Example | Unreadable> {
  const references = referencesOf(sample);
  const { image } = rows.at(sample.row)!;
  const target: CropPlanner = (decoded) => ({ resizing: trainResizing(decoded, size) });
  const prompts: CropPlanner[] = sample.drop.dropImage ? [] : [(decoded) => imageProcessor.plan(decoded)];
  const [wantsTarget, wantsPrompt] = [inputs.includes('pixelValues'), inputs.includes('clipPixelValues')];
  const promptImages = references.map(({ row }) => rows.at(row)!.promptImage);
  try {
    let crop: RgbImage | undefined;
    let clipCrops: (RgbImage | undefined)[] = [];
    if (wantsTarget && wantsPrompt && promptImages.length === 1 && promptImages[0]!.name === image.name) {
      const [own, clipCrop] = await readCrops(image, [target, ...prompts], { reduced });
      [crop, clipCrops] = [own, [clipCrop]];
    } else {
      const reading = wantsTarget ? readCrops(image, [target], { reduced }) : [];
      const readingPrompts = (wantsPrompt ? references : []).map(async ({ row }, i) => {
        const [clipCrop] = await ofRow(row, readCrops(promptImages[i]!, prompts, { reduced }));
        return clipCrop;
      });
      // If several fail, the error of the training image is reported, whichever fails first.
      const allPrompts = Promise.all(readingPrompts);
      allPrompts.catch(() => {});
      [crop] = await reading;
      clipCrops = await allPrompts;
    }
    const flipped = (crop: RgbImage | undefined) =>
      crop !== undefined && sample.flip ? mirror(crop) : (crop ?? null);
    return { ...sample, crop: flipped(crop), clipCrops: clipCrops.map(flipped) };
  } catch (error) {
    if (error instanceof Unreadable) return error;
    if (error instanceof ImageError) return new Unreadable(sample.row, error);
    throw error;
  }
}
