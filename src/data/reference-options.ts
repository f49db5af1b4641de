/** @file What a run does to its references: the options, and which variation a reference has. */
import { ConfigError } from '../base/errors.js';
import { cachedVariant, variantFor } from './sampling.js';

export interface ReferenceOptions {
  /** Share of the references that are mirrored, 0 … 1 (RandomHorizontalFlip). */
  readonly flip: number;
  /** The smallest part that is kept of the area, above 0 … 1; 1: all (RandomResizedCrop). */
  readonly crop: number;
  /** The most that brightness, contrast, saturation (factors 1 ± value) and hue (± value of a turn) change (ColorJitter). */
  readonly colorJitter: readonly [brightness: number, contrast: number, saturation: number, hue: number];
  /** The most that the image is turned, degrees to either side (RandomRotation). */
  readonly rotation: number;
  /** The number of variations that each image has. Default: others in every epoch. */
  readonly variants?: number | undefined;
  /** Whether an image with a mask is cut to what the mask shows. */
  readonly maskCrop: boolean;
  /** What replaces everything that the mask does not show, RGB. */
  readonly background?: readonly number[] | undefined;
}

export interface MaskOptions {
  readonly referenceMaskCrop?: boolean | undefined;
  /** #rrggbb */
  readonly referenceBackground?: string | undefined;
  readonly maskedLoss?: boolean | undefined;
}

interface Config extends MaskOptions {
  readonly referenceFlip?: number | undefined;
  readonly referenceCrop?: number | undefined;
  readonly referenceColorJitter?: readonly number[] | undefined;
  readonly referenceRotation?: number | undefined;
  readonly imageVariants?: number | undefined;
  readonly cache?: readonly string[] | undefined;
}

/** Returns whether a run uses masks, and so whether its datasets are read with them. */
export function usesMasks({ maskedLoss, referenceMaskCrop, referenceBackground }: MaskOptions): boolean {
  return maskedLoss === true || referenceMaskCrop === true || referenceBackground !== undefined;
}

/**
 * Returns what is done to references; undefined for nothing.
 * @throws ConfigError where the options contradict each other
 */
export function referenceOptions(config: Config): ReferenceOptions | undefined {
  const { referenceFlip: flip = 0, referenceCrop: crop = 1, referenceRotation: rotation = 0 } = config;
  const [brightness = 0, contrast = 0, saturation = 0, hue = 0] = config.referenceColorJitter ?? [];
  const { referenceMaskCrop: maskCrop = false, referenceBackground, imageVariants: variants } = config;
  const options: ReferenceOptions = {
    ...{ flip, crop, rotation, colorJitter: [brightness, contrast, saturation, hue] },
    ...{ variants, maskCrop, background: (referenceBackground && rgbOf(referenceBackground)) || undefined },
  };
  const isVaried = varies(options);
  const names = '--reference-flip, --reference-crop, --reference-color-jitter or --reference-rotation';
  if (variants !== undefined && !isVaried)
    throw new ConfigError(
      `--image-variants (imageVariants) is ${variants}, but nothing varies references; give ${names}, or leave it out`,
    );
  if (isVaried && variants === undefined && config.cache?.includes('image'))
    throw new ConfigError(
      `${names} varies references in every epoch, and --cache image keeps one encoding of each; give --image-variants 4 to cache four variations of each, or leave image out of --cache`,
    );
  return isVaried || masks(options) ? options : undefined;
}

/** Returns whether references depend on their masks. */
export function masks(options: ReferenceOptions | undefined): boolean {
  return options !== undefined && (options.maskCrop || options.background !== undefined);
}

function varies({ flip, crop, colorJitter, rotation }: ReferenceOptions): boolean {
  return flip > 0 || crop < 1 || rotation > 0 || colorJitter.some((most) => most > 0);
}

/** @param colour #rrggbb */
function rgbOf(colour: string): number[] {
  return [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
}

/** Returns the number that decides how a reference is varied; undefined where references are not. */
export function variantOf(
  options: ReferenceOptions,
  at: { seed: number; epoch: number; row: number; draw: number; place: number },
): number | undefined {
  if (!varies(options)) return undefined;
  const drawn = variantFor(at.seed, at.epoch, at.draw, at.place);
  return options.variants === undefined ? drawn : cachedVariant(at.row, drawn % options.variants);
}

/** Returns what `variantOf` can return for a row with a fixed number of variations. */
export function variantsOf(options: ReferenceOptions | undefined, row: number): (number | undefined)[] {
  if (options === undefined || !varies(options)) return [undefined];
  return Array.from({ length: options.variants ?? 0 }, (_, i) => cachedVariant(row, i));
}
