/**
 * @file Reads parts of an image at other sizes, as training needs them. JPEGs of the usual kind are decoded and resampled by
 * the addon in one go; everything else, and every JPEG with a fault, goes through sharp. Both give the same bytes.
 */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { cropJpeg, type JpegShrink, jpegSize } from '../torch/index.js';
import { withinBudget } from './decode-budget.js';
import { MAX_PIXELS, useImage } from './image.js';
import { type ImageSource, SourceFailure } from './image-source.js';
import { filters, type Rectangle, type Resizing, resizeAndCropAsync } from './resample.js';

/** A part of an image at another size. */
export interface CropPlan {
  readonly resizing: Resizing;
  /** The size of the result, and where in it the part lies, on black. Default: the part alone. */
  readonly frame?: Rectangle;
}

/** Says what to take of an image of a size. */
export type CropPlanner = (image: Size) => CropPlan;

/** What an image takes while a JPEG is decoded: its planes and RGB. */
const BYTES_PER_PIXEL = 6;

/** A reduced image has at least this many times the pixels a side that are needed, as Pillow's `reducing_gap` suggests. */
const GAP = 2;

/**
 * Reads parts of an image, in Node's threads.
 * @param reduced whether a JPEG that is at least four times as wide and high as needed is decoded at 1/2, 1/4 or 1/8 of its
 * size, twice as large as needed or more (Pillow's `draft` and `reducing_gap=2`). That is several times as fast; bytes differ by
 * 0.2 to 0.7 in the mean, and by at most 9, in smooth and grainy photographs of 2048 and 4096 pixels. Default: false
 * @throws ImageError as `readImage`
 */
export async function readCrops(
  source: ImageSource,
  planners: readonly CropPlanner[],
  { reduced = false }: { reduced?: boolean | undefined } = {},
): Promise<RgbImage[]> {
  return (await readJpeg(source, planners, reduced)) ?? useImage(source, (image) => cropAll(image, planners));
}

async function cropAll(image: RgbImage, planners: readonly CropPlanner[]): Promise<RgbImage[]> {
  const crop = async (planner: CropPlanner): Promise<RgbImage> => {
    const { resizing, frame } = planner(image);
    return padWithBlack(await resizeAndCropAsync(image, resizing), frame);
  };
  return Promise.all(planners.map(crop));
}

/** Returns null where sharp has to read the image, or to say what is wrong with it. */
async function readJpeg(
  source: ImageSource,
  planners: readonly CropPlanner[],
  reduced: boolean,
): Promise<RgbImage[] | null> {
  let bytes: Uint8Array;
  try {
    bytes = await source.read();
  } catch (error) {
    if (error instanceof SourceFailure) throw error.cause;
    return null;
  }
  const size = jpegSize(bytes);
  if (size === null) return null;
  const image = { width: size[0], height: size[1] };
  if (image.width * image.height > MAX_PIXELS) return null;
  const plans = planners.map((planner) => planner(image));
  const shrink = reduced ? shrinkFor(image, plans) : 1;
  const crops = plans.map(({ resizing }) => filters(image, resizing, shrink));
  const memory = (image.width * image.height * BYTES_PER_PIXEL) / shrink ** 2;
  const results = await withinBudget(memory, () => cropJpeg(bytes, shrink, crops));
  if (results === null) return null;
  return plans.map(({ resizing: { crop }, frame }, i) =>
    padWithBlack({ data: results[i]!, width: crop.width, height: crop.height }, frame),
  );
}

/** Returns the largest factor that leaves every plan GAP times the size that it needs; 1 for a part of the image. */
function shrinkFor(image: Size, plans: readonly CropPlan[]): JpegShrink {
  const fits = (shrink: number): boolean =>
    plans.every(
      ({ resizing: { width, height, box } }) =>
        box === undefined && image.width >= GAP * shrink * width && image.height >= GAP * shrink * height,
    );
  return ([8, 4, 2] as const).find(fits) ?? 1;
}

/** Returns a black image of the frame's size with `image` at the frame's left and top; without a frame, the image. */
export function padWithBlack(image: RgbImage, frame: Rectangle | undefined): RgbImage {
  if (frame === undefined || (image.width === frame.width && image.height === frame.height)) return image;
  const data = new Uint8Array(frame.width * frame.height * 3);
  const stride = image.width * 3;
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(y * stride, (y + 1) * stride);
    data.set(row, ((frame.top + y) * frame.width + frame.left) * 3);
  }
  return { data, width: frame.width, height: frame.height };
}
