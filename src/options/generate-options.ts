/** @file The options of a pipeline and of what it generates: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { samplerNames } from '../schedulers/config.js';
import type { Job } from './generate-types.js';
import { clipSkip, count, number, path, seed, side, targetOptions, whole } from './options.js';

/** An adapter and its image encoder. */
const loadedAdapter = {
  adapter: path.describe(
    'IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub',
  ),
  imageEncoder: path
    .optional()
    .describe(
      'CLIP image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings',
    ),
};

const noText = 'must be text';
const fraction = number(0, 1);
const range = z
  .tuple([fraction, fraction], 'must be two numbers, [start, end]')
  .refine(([start, end]) => start <= end, 'must not end before it starts');

/** The image prompt of an adapter. */
const imagePrompt = {
  images: z
    .array(
      z.union([path, z.custom<RgbImage>(isRgbImage).meta({ tsType: 'RgbImage' })], {
        error: 'must be a path, or an image { data, width, height }',
      }),
      'must be a list of images',
    )
    .optional()
    .describe('reference images, or .safetensors files of ip-adapter embed'),
  weights: z
    .array(number(0, 1e9))
    .optional()
    .describe('one weight for each reference image, in their order; default: equal weights'),
  scale: number(0, 1e4)
    .optional()
    .describe('strength of the image prompt beside the text: 0 none, 1 as trained; default: 1'),
  range: range
    .optional()
    .describe('start and end of the steps in which the image prompt acts, as fractions; default: 0 1'),
};

const adaptersText = 'several adapters, each with its own options, instead of the options of one';

export const pipelineOptionsSchema = z.strictObject({
  model: path.describe(
    'Stable Diffusion: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub',
  ),
  adapter: loadedAdapter.adapter
    .optional()
    .describe(`${loadedAdapter.adapter.description}; default: none, text alone`),
  imageEncoder: loadedAdapter.imageEncoder,
  adapters: z.array(z.strictObject(loadedAdapter)).optional().describe(adaptersText),
  ...targetOptions,
});

export const imageFit = z
  .enum(['crop', 'resize'])
  .default('crop')
  .describe('reference images that are not square: crop keeps the middle, resize squeezes the whole');

/** How an image that is not square becomes square. */
export type ImageFit = z.output<typeof imageFit>;

const pair = z.tuple([whole(0, 100_000), whole(0, 100_000)], 'must be two whole numbers');

/** How images are generated, independent of their content. */
export const drawOptionsSchema = z.strictObject({
  negativePrompt: z
    .string(noText)
    .optional()
    .describe('text that the images should be unlike; default: none'),
  scale: imagePrompt.scale,
  range: imagePrompt.range,
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
  width: side.optional().describe("width in pixels; default: the model's own size"),
  height: side.optional().describe("height in pixels; default: the model's own size"),
  clipSkip,
  originalSize: pair
    .optional()
    .describe('SDXL: height and width that the image is to seem cut from, in pixels; default: its own'),
  cropsCoordsTopLeft: pair.optional().describe('SDXL: top and left of that cut, in pixels; default: 0 0'),
  targetSize: pair.optional().describe('SDXL: height and width of the cut, in pixels; default: its own'),
  imageFit,
  batchSize: count.default(4).describe('images generated at the same time'),
  adapters: z
    .array(z.strictObject({ scale: imagePrompt.scale, range: imagePrompt.range }))
    .optional()
    .describe('scale and range of each loaded adapter, in their order, instead of those of one'),
});

/** The content of one image. */
const subject = {
  prompt: z.string(noText).default('').describe('text that the images follow'),
  seed: seed.default(0).describe('seed of the noise'),
  images: imagePrompt.images,
  weights: imagePrompt.weights,
};

export const jobSchema = z.strictObject({
  ...subject,
  adapters: z
    .array(z.strictObject({ images: imagePrompt.images, weights: imagePrompt.weights }))
    .optional()
    .describe('images and weights of each loaded adapter, in their order, instead of those of one'),
});

/** The options of a loaded pipeline. */
export const promptOptionsSchema = z.strictObject({
  ...subject,
  numImages: whole(1, 10_000).default(1).describe('images to generate; the n-th has the seed plus n, from 0'),
  ...drawOptionsSchema.shape,
  adapters: z.array(z.strictObject(imagePrompt)).optional().describe(adaptersText),
});

/** The options of models and prompts. */
export const generateOptionsSchema = z.strictObject({
  ...pipelineOptionsSchema.shape,
  ...promptOptionsSchema.shape,
  adapters: z
    .array(z.strictObject({ ...loadedAdapter, ...imagePrompt }))
    .optional()
    .describe(adaptersText),
});

/** The options that load an adapter. An entry of `adapters` always has `adapter`. */
export type LoadedAdapter = Partial<z.output<z.ZodObject<typeof loadedAdapter>>>;
export type ImagePromptOptions = z.output<z.ZodObject<typeof imagePrompt>>;
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

function isRgbImage(value: unknown): boolean {
  const { data, width, height } = (value ?? {}) as Partial<RgbImage>;
  return data instanceof Uint8Array && data.length > 0 && data.length === Number(width) * Number(height) * 3;
}
