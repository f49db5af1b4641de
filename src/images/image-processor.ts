/**
 * @file The image that a vision model sees. CLIP and DINOv2: resized by its shortest edge, and cropped in the middle;
 * SigLIP and DINO: squeezed into a square. Then each model's mean and standard deviation.
 *
 * Source: transformers `models/clip/image_processing_clip.py`, its siblings for ViT, Bit and SigLIP, and
 * `image_transforms.py` (`center_crop` floors its offset, where torchvision rounds, and pads with black where the image is
 * smaller than the crop).
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError, shown } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { type PixelTable, PixelValues, pixelTable } from './pixels.js';
import { type CropPlan, padWithBlack } from './read-crops.js';
import { resizeAndCrop } from './resample.js';
import { shortestEdge } from './train-transform.js';

const CONFIG_FILE = 'preprocessor_config.json';

/** Numbers of `PIL.Image.Resampling`. */
const BILINEAR = 2;
const BICUBIC = 3;

/** What transformers' image processors do where their file does not say. */
export interface ProcessorDefaults {
  mean: readonly number[];
  std: readonly number[];
  resample: typeof BILINEAR | typeof BICUBIC;
  /** Whether the whole image is squeezed into a square, instead of being cropped. */
  squeezes: boolean;
  /** Lengths in pixels; default: the model's image size. */
  shortestEdge?: number;
  cropSize?: number;
}

const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

export const processorDefaults = {
  clip: {
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
    resample: BICUBIC,
    squeezes: false,
  },
  siglip: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], resample: BICUBIC, squeezes: true },
  // facebookresearch/dinov2 `dinov2/data/transforms.py`, make_classification_eval_transform.
  dinov2: { ...imagenet, resample: BICUBIC, squeezes: false, shortestEdge: 256, cropSize: 224 },
  dino: { ...imagenet, resample: BILINEAR, squeezes: true },
} satisfies Record<string, ProcessorDefaults>;

const side = z.int().min(1);
const square = z
  .strictObject({ height: side, width: side })
  .refine((size) => size.height === size.width, 'height and width must be equal')
  .transform((size) => size.height);
const perChannel = z.array(z.number()).length(3);
/** Keys that transformers writes besides (class names and the like) do not change the pixels. */
const configSchema = z.looseObject({
  do_resize: z.literal(true).default(true),
  do_center_crop: z.boolean().optional(),
  do_rescale: z.literal(true).default(true),
  do_normalize: z.literal(true).default(true),
  resample: z.literal([BILINEAR, BICUBIC]).optional(),
  // Files from before transformers 4.26 hold plain numbers.
  size: z
    .union([side, z.strictObject({ shortest_edge: side }), square.transform((size) => ({ square: size }))])
    .optional(),
  crop_size: z.union([side, square]).optional(),
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  image_mean: perChannel.optional(),
  image_std: perChannel.refine((std) => std.every((s) => s > 0), 'must be above 0').optional(),
});

/** What a supported file may hold, for the error message. */
const EXPECTED: Record<string, string> = {
  do_resize: 'true',
  do_center_crop: 'true or false',
  do_rescale: 'true',
  do_normalize: 'true',
  resample: '2 (bilinear) or 3 (bicubic)',
  size: '{"shortest_edge": n}, {"height": n, "width": n} with both the same, or a number n, 1 or more',
  crop_size: '{"height": n, "width": n} with both the same, or a number n, 1 or more',
  rescale_factor: 'a number above 0',
  image_mean: 'three numbers',
  image_std: 'three numbers above 0',
};

/** Makes a vision model's pixel values from images. */
export class ImageProcessor {
  /** Null where the image is squeezed. */
  readonly #shortestEdge: number | null;
  readonly #filter: 'bilinear' | 'bicubic';
  /** Byte → normalised float. */
  readonly #pixels: PixelTable;

  private constructor(
    /** Height and width of the result, in pixels. */
    readonly cropSize: number,
    shortestEdge: number | null,
    config: z.infer<typeof configSchema>,
    defaults: ProcessorDefaults,
  ) {
    this.#shortestEdge = shortestEdge;
    this.#filter = (config.resample ?? defaults.resample) === BICUBIC ? 'bicubic' : 'bilinear';
    const { image_mean: mean = defaults.mean, image_std: std = defaults.std } = config;
    this.#pixels = pixelTable(config.rescale_factor, mean, std);
  }

  /**
   * The processor of the image encoder in `encoderDir`: as its `preprocessor_config.json` says, or with the defaults where
   * there is no such file.
   * @param imageSize `image_size` of the encoder's own config, which the result has to have; null where the encoder takes
   * any size
   * @throws ConfigError naming file and key, when the file asks for other processing
   */
  static load(
    encoderDir: string,
    imageSize: number | null,
    defaults: ProcessorDefaults = processorDefaults.clip,
  ): ImageProcessor {
    const file = join(encoderDir, CONFIG_FILE);
    const config = existsSync(file) ? readConfig(file) : configSchema.parse({});
    const { size } = config;
    const given = typeof size === 'object' ? Object.values(size)[0] : size;
    const squeezes = typeof size === 'object' ? 'square' in size : defaults.squeezes;
    const crops = config.do_center_crop ?? !squeezes;
    if (crops === squeezes)
      throw new ConfigError(
        `Expected ${squeezes ? 'false, with a square size,' : 'true'} for do_center_crop in ${file} but received ${config.do_center_crop}.`,
      );
    const fallback = imageSize ?? defaults.cropSize ?? (given as number);
    const cropSize = (squeezes ? given : config.crop_size) ?? fallback;
    if (imageSize !== null && cropSize !== imageSize)
      throw new ConfigError(
        `Expected ${squeezes ? 'size' : 'crop_size'} ${imageSize} (the image encoder's image_size) in ${file} but received ${cropSize}.`,
      );
    const shortestEdge = squeezes ? null : (given ?? defaults.shortestEdge ?? cropSize);
    return new ImageProcessor(cropSize, shortestEdge, config, defaults);
  }

  /** The square of `cropSize` × `cropSize` pixels that the encoder sees, before normalisation. */
  crop(image: RgbImage): RgbImage {
    const { resizing, frame } = this.plan(image);
    return padWithBlack(resizeAndCrop(image, resizing), frame);
  }

  /** The part of an image that the square shows, and where in the square it lies. */
  plan(image: Size): CropPlan {
    const size = this.cropSize;
    const { width, height } =
      this.#shortestEdge === null ? { width: size, height: size } : shortestEdge(image, this.#shortestEdge);
    const left = Math.floor((width - size) / 2);
    const top = Math.floor((height - size) / 2);
    const crop = {
      left: Math.max(0, left),
      top: Math.max(0, top),
      width: Math.min(width, size),
      height: Math.min(height, size),
    };
    return {
      resizing: { width, height, crop, filter: this.#filter },
      frame: { left: Math.max(0, -left), top: Math.max(0, -top), width: size, height: size },
    };
  }

  /** What the encoder takes of images, [n, 3, cropSize, cropSize]. */
  pixelValues(images: readonly RgbImage[]): PixelValues {
    return this.normalized(images.map((image) => this.crop(image)));
  }

  /** The same of images as `crop` returns them; zeros in place of null. */
  normalized(crops: readonly (RgbImage | null)[]): PixelValues {
    return new PixelValues(crops, this.#pixels, { width: this.cropSize, height: this.cropSize });
  }
}

function readConfig(file: string): z.infer<typeof configSchema> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(regularFile(file), 'utf8'));
  } catch (error) {
    throw new ConfigError(
      `Expected a JSON object in ${file} but it cannot be read: ${(error as Error).message}.`,
      {
        cause: error,
      },
    );
  }
  const result = configSchema.safeParse(json);
  if (result.success) return result.data;
  const key = String(result.error.issues[0]!.path[0] ?? '');
  if (key === '') throw new ConfigError(`Expected a JSON object in ${file} but received ${shown(json)}.`);
  const value = shown((json as Record<string, unknown>)[key]);
  throw new ConfigError(`Expected ${EXPECTED[key]} for ${key} in ${file} but received ${value}.`);
}
