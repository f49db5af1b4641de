/** @file The options of a pipeline and of what it generates: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { samplerNames } from '../schedulers/config.js';
import type { Job } from './generate-types.js';
import { lora } from './lora-options.js';
import { clipSkip, count, flag, number, path, seed, side, targetOptions, whole } from './options.js';
import {
  range,
  referenceImages,
  referenceImagesSchema,
  referenceSettings,
  referenceSettingsSchema,
} from './reference-options.js';
import type { References } from './reference-types.js';
import { controlnet, sourceOptions } from './source-options.js';

/** An adapter and its image encoder. */
export const loadedAdapter = {
  adapter: path.describe(
    'IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub',
  ),
  imageEncoder: path
    .optional()
    .describe(
      'image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings',
    ),
};

const noText = 'must be text';
const adaptersText = 'several adapters, each with its own options, instead of the options of one';

export const pipelineOptionsSchema = z.strictObject({
  model: path.describe(
    'Stable Diffusion: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub',
  ),
  adapter: loadedAdapter.adapter
    .optional()
    .describe(`${loadedAdapter.adapter.description}; default: none, text alone`),
  imageEncoder: loadedAdapter.imageEncoder,
  adapters: z
    .array(z.strictObject(loadedAdapter).meta({ tsType: 'AdapterFiles' }))
    .optional()
    .describe(adaptersText),
  loras: z
    .array(lora, 'must be a list of LoRAs')
    .optional()
    .describe(
      'LoRAs merged into the model, each as path or path:scale: .safetensors file, folder or name on the Hub; a scale of 1 is as trained',
    ),
  controlnet,
  ...targetOptions,
});

export const imageFit = z
  .enum(['crop', 'crop-top', 'crop-bottom', 'crop-left', 'crop-right', 'resize', 'pad'])
  .default('crop')
  .describe(
    'reference images that are not square: crop keeps the middle, or the named end; resize squeezes the whole; pad adds black',
  );

/** How an image that is not square becomes square. */
export type ImageFit = z.output<typeof imageFit>;

const pair = z.tuple([whole(0, 100_000), whole(0, 100_000)], 'must be two whole numbers');

/** How images are generated, independent of their content. */
export const drawOptionsSchema = z.strictObject({
  negativePrompt: z
    .string(noText)
    .optional()
    .describe('text that the images should be unlike; default: none'),
  ...referenceSettings,
  guidanceScale: number(0, 1e4).default(7.5).describe('classifier-free guidance; 1: none'),
  guidanceRescale: number(0, 1)
    .default(0)
    .describe('share in which guided predictions get the spread of unguided ones, against too much contrast'),
  guidanceRange: range
    .optional()
    .describe('start and end of the steps in which guidance acts, as fractions; default: 0 1'),
  guidanceBatch: z
    .enum(['together', 'in-turn'])
    .default('together')
    .describe('prompt and negative prompt in one call of the model, or in turn, which takes less memory'),
  steps: whole(1, 10_000).default(30).describe('denoising steps'),
  noise: z
    .enum(['cpu', 'device'])
    .default('cpu')
    .describe(
      "generator of the noise: the CPU's, the same on every device and as diffusers' with a CPU generator, or the device's own",
    ),
  scheduler: z.enum(samplerNames).optional().describe("sampler; default: the model's own"),
  width: side.optional().describe("width in pixels; default: the source image's, or the model's own size"),
  height: side.optional().describe("height in pixels; default: the source image's, or the model's own size"),
  clipSkip,
  originalSize: pair
    .optional()
    .describe('SDXL: height and width that the image is to seem cut from, in pixels; default: its own'),
  cropsCoordsTopLeft: pair.optional().describe('SDXL: top and left of that cut, in pixels; default: 0 0'),
  targetSize: pair.optional().describe('SDXL: height and width of the cut, in pixels; default: its own'),
  imageFit,
  ...sourceOptions,
  vaeTiling: flag
    .default(false)
    .describe(
      'encode and decode images larger than the VAE was trained on in tiles, which needs less memory',
    ),
  previewSteps: whole(1, 10_000)
    .optional()
    .describe(
      'steps between previews of the images under way, one pixel for a latent, in a file named after --out that ends in -preview.png; default: none',
    ),
  batchSize: count.default(4).describe('images generated at the same time'),
  adapters: z
    .array(referenceSettingsSchema)
    .optional()
    .describe('scale and other settings of each loaded adapter, in their order, instead of those of one'),
});

/** The content of one image. */
const subject = {
  prompt: z.string(noText).default('').describe('text that the images follow'),
  seed: seed.default(0).describe('seed of the noise'),
  ...referenceImages,
};

export const jobSchema = z.strictObject({
  ...subject,
  adapters: z
    .array(referenceImagesSchema)
    .optional()
    .describe('images and weights of each loaded adapter, in their order, instead of those of one'),
});

/** The options of a loaded pipeline. */
export const promptOptionsSchema = z.strictObject({
  ...subject,
  numImages: whole(1, 10_000).default(1).describe('images to generate; the n-th has the seed plus n, from 0'),
  ...drawOptionsSchema.shape,
  adapters: z
    .array(z.strictObject({ ...referenceImages, ...referenceSettings }).meta({ tsType: 'References' }))
    .optional()
    .describe(adaptersText),
});

/** The options of models and prompts. */
export const generateOptionsSchema = z.strictObject({
  ...pipelineOptionsSchema.shape,
  ...promptOptionsSchema.shape,
  adapters: z
    .array(
      z
        .strictObject({ ...loadedAdapter, ...referenceImages, ...referenceSettings })
        .meta({ tsType: 'AdapterWithReferences' }),
    )
    .optional()
    .describe(adaptersText),
});

/** The options that load an adapter. An entry of `adapters` always has `adapter`. */
export type LoadedAdapter = Partial<z.output<z.ZodObject<typeof loadedAdapter>>>;
export const adapterKeys = Object.keys(loadedAdapter) as (keyof LoadedAdapter)[];
export const referenceKeys = Object.keys({
  ...referenceImages,
  ...referenceSettings,
}) as (keyof References)[];
export type ResolvedDrawOptions = z.output<typeof drawOptionsSchema>;

/** A job with the weight of each image. */
export interface ResolvedJob {
  prompt: string;
  /** A list for each adapter; empty where the adapter has no image. Jobs that share a list share its encoding. */
  imagePrompts: readonly (readonly WeightedImage[])[];
  seed: number;
}

export interface WeightedImage {
  image: string | RgbImage;
  weight: number;
}

/**
 * Returns the entries of `adapters`, or the one entry that the short forms make, or none.
 * @param keys the names of the short forms
 * @throws ConfigError where `adapters` and a short form are both set
 */
export function adapterEntries<E extends object>(
  { adapters, ...options }: E & { adapters?: readonly E[] | undefined },
  keys: readonly (keyof E & string)[],
): E[] {
  const short = Object.entries(options).filter(
    ([key, value]) => keys.includes(key as never) && value !== undefined,
  );
  if (adapters === undefined) return short.length === 0 ? [] : [Object.fromEntries(short) as E];
  const names = short.map(([key]) => key).join(', ');
  if (names !== '')
    throw new ConfigError(`adapters and ${names} are both given; give ${names} in the entries of adapters`);
  return [...adapters];
}

/** Returns the images with their weights, by default 1. @throws ConfigError where weights and images differ in number */
export function weighted({ images = [], weights = [] }: Pick<Job, 'images' | 'weights'>): WeightedImage[] {
  if (weights.length > 0 && weights.length !== images.length)
    throw new ConfigError(
      `--weights (weights) has ${weights.length} values for ${images.length} --images (images); give one for each image, or none`,
    );
  return images.map((image, i) => ({ image, weight: weights[i] ?? 1 }));
}
