/** @file Reads the images of one row as the encoders take them. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { ImageError } from '../images/image.js';
import type { ImageProcessor } from '../images/image-processor.js';
import { assertSameSize, blackMask, greysOf } from '../images/mask.js';
import { mirror } from '../images/mirror.js';
import { type CropPlanner, readCrops } from '../images/read-crops.js';
import { trainResizing } from '../images/train-transform.js';
import { type DatasetRow, promptMaskOf, type Rows } from './dataset.js';
import { type Example, type Input, type Reference, referencesOf, type Sample } from './examples.js';
import { type ReferenceReading, referenceReading } from './reference-image.js';
import type { ReferenceOptions } from './reference-options.js';

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
  /** What is done to references. Default: nothing. */
  readonly references?: ReferenceOptions | undefined;
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
  options: ReadOptions,
): Promise<Example | Unreadable> {
  const { rows, reducedDecode: reduced } = options;
  const references = referencesOf(sample);
  const row = rows.at(sample.row)!;
  const { image } = row;
  const target = targetPlanner(size);
  const [wantsTarget, wantsPrompt] = [inputs.includes('pixelValues'), inputs.includes('clipPixelValues')];
  const promptImages = references.map(({ row }) => rows.at(row)!.promptImage);
  const { dropImage } = sample.drop;
  // The mask of a dropped image is compared with it, too.
  const plannersOf = ({ planner }: ReferenceReading): CropPlanner[] =>
    dropImage && options.references === undefined ? [] : [planner];
  try {
    const masking = inputs.includes('lossMasks') ? readLossMask(row, size) : null;
    masking?.catch(() => {});
    const readings = await Promise.all(
      (wantsPrompt ? references : []).map((reference) => ofRow(reference.row, readingOf(reference, options))),
    );
    let crop: RgbImage | undefined;
    let clipCrops: (RgbImage | undefined)[] = [];
    if (wantsTarget && wantsPrompt && promptImages.length === 1 && promptImages[0]!.name === image.name) {
      const [own, clipCrop] = await readCrops(image, [target, ...plannersOf(readings[0]!)], { reduced });
      [crop, clipCrops] = [own, [clipCrop]];
    } else {
      const reading = wantsTarget ? readCrops(image, [target], { reduced }) : [];
      const readingPrompts = readings.map(async (reading, i) => {
        const { row } = references[i]!;
        const [clipCrop] = await ofRow(row, readCrops(promptImages[i]!, plannersOf(reading), { reduced }));
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
    const mask = flipped((await masking) ?? undefined);
    const finished = clipCrops.map((crop, i) =>
      crop === undefined || dropImage ? undefined : readings[i]!.finish(crop),
    );
    return {
      ...{ ...sample, crop: flipped(crop), clipCrops: finished.map(flipped) },
      mask: mask && greysOf(mask),
    };
  } catch (error) {
    if (error instanceof Unreadable) return error;
    if (error instanceof ImageError) return new Unreadable(sample.row, error);
    throw error;
  }
}

/** Returns what to take of a training image. */
function targetPlanner(size: Size): CropPlanner {
  return (decoded) => ({ resizing: trainResizing(decoded, size) });
}

async function readingOf(
  { row, variant }: Reference,
  { rows, imageProcessor, references }: ReadOptions,
): Promise<ReferenceReading> {
  if (references === undefined)
    return { planner: (decoded) => imageProcessor.plan(decoded), finish: (crop) => crop };
  return referenceReading({ mask: promptMaskOf(rows.at(row)!), variant }, imageProcessor, references);
}

/**
 * Reads the part of a row's mask that lies on its training image; null where it has none.
 * @throws ImageError where it cannot be read, is black there, or has another size than the image
 */
export async function readLossMask({ image, mask }: DatasetRow, size: Size): Promise<RgbImage | null> {
  if (mask === undefined) return null;
  await assertSameSize(mask, image);
  const [crop] = (await readCrops(mask, [targetPlanner(size)])) as [RgbImage];
  if (greysOf(crop).every((grey) => grey === 0)) throw blackMask(mask);
  return crop;
}
