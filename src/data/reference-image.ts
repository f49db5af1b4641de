/**
 * @file What is done to a reference before the image encoder sees it: cut and cleared by its mask, and varied at random by
 * torchvision's transforms, each named as there. The training image is not touched.
 */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { type ColorChange, changeColors } from '../images/color-jitter.js';
import { readImage, useImage } from '../images/image.js';
import type { ImageProcessor } from '../images/image-processor.js';
import type { ImageSource } from '../images/image-source.js';
import { assertMaskFits, blackMask, boundsOf, onBackground } from '../images/mask.js';
import { mirror } from '../images/mirror.js';
import { type CropPlan, type CropPlanner, padWithBlack, readCrops } from '../images/read-crops.js';
import { type Rectangle, resizeAndCropAsync } from '../images/resample.js';
import { rotate } from '../images/rotate.js';
import { type DatasetRow, promptMaskOf } from './dataset.js';
import { masks, type ReferenceOptions } from './reference-options.js';
import { uniform } from './sampling.js';

/** How a reference is read: what to take of its image, and what to do with that. */
export interface ReferenceReading {
  readonly planner: CropPlanner;
  readonly finish: (crop: RgbImage) => RgbImage;
}

/**
 * Returns how a reference is read; its mask is read here.
 * @param variant decides the variation; undefined: none
 * @throws ImageError where the mask cannot be read, is black, or, from the planner, has another size than the image
 */
export async function referenceReading(
  { mask, variant }: { mask: ImageSource | undefined; variant: number | undefined },
  processor: Pick<ImageProcessor, 'plan'>,
  options: ReferenceOptions,
): Promise<ReferenceReading> {
  const { crop, maskCrop, background } = options;
  const change = variant === undefined ? undefined : variation(variant, options);
  const plan = (within: Rectangle): CropPlan => {
    const box = change?.crop(within) ?? within;
    const { resizing, frame } = processor.plan(box);
    return { resizing: { ...resizing, box }, ...(frame && { frame }) };
  };
  const masking = mask !== undefined && masks(options) ? await maskingOf(mask, maskCrop, plan) : undefined;
  return {
    planner: (image) => {
      if (masking === undefined && crop === 1) return processor.plan(image);
      if (masking !== undefined) assertMaskFits(masking.mask, masking.size, image);
      return plan(masking?.bounds ?? whole(image));
    },
    finish: (image) => {
      const coloured = change?.colour(image) ?? image;
      const cleared = masking && background ? onBackground(coloured, masking.matte, background) : coloured;
      return change?.move(cleared) ?? cleared;
    },
  };
}

/**
 * Reads a row's reference at full size, cut and cleared by its mask, without random changes.
 * @throws ImageError as `referenceReading`
 */
export async function readReference(
  row: DatasetRow,
  options: ReferenceOptions | undefined,
): Promise<RgbImage> {
  const mask = promptMaskOf(row);
  if (options === undefined || mask === undefined || !masks(options)) return readImage(row.promptImage);
  const { planner, finish } = await referenceReading({ mask, variant: undefined }, fullSize, options);
  const [image] = (await readCrops(row.promptImage, [planner])) as [RgbImage];
  return finish(image);
}

const fullSize: Pick<ImageProcessor, 'plan'> = {
  plan: ({ width, height }) => ({
    resizing: { width, height, crop: whole({ width, height }), filter: 'bilinear' },
  }),
};

/** Reads a mask: what it leaves of its image, and that part of itself. */
async function maskingOf(mask: ImageSource, crops: boolean, plan: (within: Rectangle) => CropPlan) {
  return useImage(mask, async (image) => {
    const shown = boundsOf(image);
    if (shown === null) throw blackMask(mask);
    const bounds = crops ? squareAround(shown, image) : whole(image);
    const { resizing, frame } = plan(bounds);
    const matte = padWithBlack(await resizeAndCropAsync(image, resizing), frame);
    const { width, height } = image;
    return { mask, size: { width, height }, bounds, matte };
  });
}

/**
 * Returns the smallest square of an image that has a rectangle in its middle, as far as the image reaches: encoders read the
 * square in the middle of what they are given.
 */
function squareAround({ left, top, width, height }: Rectangle, image: Size): Rectangle {
  const side = Math.max(width, height);
  const along = (start: number, length: number, size: number): [start: number, length: number] => {
    const outLength = Math.min(side, size);
    const centred = start - Math.floor((outLength - length) / 2);
    return [Math.max(0, Math.min(size - outLength, centred)), outLength];
  };
  const [x, outWidth] = along(left, width, image.width);
  const [y, outHeight] = along(top, height, image.height);
  return { left: x, top: y, width: outWidth, height: outHeight };
}

function whole({ width, height }: Size): Rectangle {
  return { left: 0, top: 0, width, height };
}

interface Variation {
  /** Returns the part of a rectangle that is kept. */
  crop(within: Rectangle): Rectangle;
  colour(image: RgbImage): RgbImage;
  /** Rotates and mirrors. */
  move(image: RgbImage): RgbImage;
}

/** Tries of a part in a random shape, as torchvision makes. */
const TRIES = 10;

/** Returns the variation of a number. The same draws are made whatever the options are. */
function variation(variant: number, { flip, crop, colorJitter, rotation }: ReferenceOptions): Variation {
  const draw = uniform(variant);
  const between = (low: number, high: number): number => low + draw() * (high - low);
  const isMirrored = draw() < flip;
  const degrees = between(-rotation, rotation);
  const [brightness, contrast, saturation, hue] = colorJitter;
  const changes: ColorChange[] = [
    { of: 'brightness', by: between(Math.max(0, 1 - brightness), 1 + brightness) },
    { of: 'contrast', by: between(Math.max(0, 1 - contrast), 1 + contrast) },
    { of: 'saturation', by: between(Math.max(0, 1 - saturation), 1 + saturation) },
    { of: 'hue', by: between(-hue, hue) },
  ];
  const order = changes.map((change) => ({ change, key: draw() })).sort((a, b) => a.key - b.key);
  const used = order
    .map(({ change }) => change)
    .filter(({ of }) => ({ brightness, contrast, saturation, hue })[of] > 0);
  const tries = Array.from({ length: TRIES }, () => [draw(), draw(), draw(), draw()] as const);
  const colour = (image: RgbImage): RgbImage => (used.length === 0 ? image : changeColors(image, used));
  const move = (image: RgbImage): RgbImage => {
    const turned = rotation === 0 ? image : rotate(image, degrees);
    return isMirrored ? mirror(turned) : turned;
  };
  return {
    crop: (within) => (crop === 1 ? within : partOf(within, crop, tries)),
    ...{ colour, move },
  };
}

/**
 * Returns a random part of a rectangle, of at least `least` of its area and of a shape between 3:4 and 4:3
 * (torchvision `transforms/transforms.py`, `RandomResizedCrop.get_params`); the rectangle where none fits.
 */
function partOf(
  within: Rectangle,
  least: number,
  tries: readonly (readonly [area: number, shape: number, x: number, y: number])[],
): Rectangle {
  const most = Math.log(4 / 3);
  for (const [share, shape, x, y] of tries) {
    const area = within.width * within.height * (least + share * (1 - least));
    const ratio = Math.exp(-most + shape * 2 * most);
    const width = Math.round(Math.sqrt(area * ratio));
    const height = Math.round(Math.sqrt(area / ratio));
    if (width < 1 || height < 1 || width > within.width || height > within.height) continue;
    const left = within.left + Math.floor(x * (within.width - width + 1));
    const top = within.top + Math.floor(y * (within.height - height + 1));
    return { left, top, width, height };
  }
  return within;
}
