/** @file The options of a pipeline and of what it generates: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import type { RgbImage } from '../images/image.js';
import { samplerNames } from '../schedulers/config.js';
import { count, fraction, path, targetOptions } from './options.js';

export const pipelineOptionsSchema = z.strictObject({
  model: path.describe(
    'Stable Diffusion: a folder in the diffusers layout, a file of 1.x, or a name on the Hub',
  ),
  imageEncoder: path
    .optional()
    .describe(
      'CLIP image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings',
    ),
  adapter: path
    .optional()
    .describe(
      'IP-Adapter Plus: .safetensors, .bin, checkpoint folder or name on the Hub; default: none, text alone',
    ),
  ...targetOptions,
});

/** What a pipeline is made of. */
export type PipelineOptions = z.input<typeof pipelineOptionsSchema>;

const imageFit = z
  .enum(['crop', 'resize'])
  .default('crop')
  .describe('reference pictures that are not square: crop cuts out the middle, resize squeezes the whole');

/** How a picture that is not square becomes so. */
export type ImageFit = z.output<typeof imageFit>;

/** How pictures are drawn, whatever they show. */
export const drawOptionsSchema = z.strictObject({
  negativePrompt: z.string().default('').describe('text that the pictures should be unlike'),
  scale: z
    .number()
    .min(0, 'must be at least 0')
    .default(1)
    .describe('strength of the image prompt beside the text: 0 none, 1 as trained'),
  guidanceScale: z
    .number()
    .min(0, 'must be at least 0')
    .default(7.5)
    .describe('how far to go beyond the unguided prediction; 1: no guidance'),
  steps: count.default(30).describe('denoising steps'),
  scheduler: z.enum(samplerNames).optional().describe("sampler; default: the model's own"),
  start: fraction.default(0).describe('fraction of the steps from which the image prompt acts'),
  end: fraction.default(1).describe('fraction of the steps up to which it acts'),
  width: count.optional().describe("pixels; default: the model's own size"),
  height: count.optional().describe("pixels; default: the model's own size"),
  imageFit,
  batchSize: count.default(4).describe('pictures drawn at the same time'),
});

/** A picture in a file or in memory, or embeddings in a `.safetensors` file; with its weight among several. */
const image = z.union(
  [path, z.custom<RgbImage>(isRgbImage)],
  'must be a path, or a picture { data, width, height }',
);
const weight = z.number().min(0, 'must be at least 0');
const weightedImage = z
  .union([image, z.strictObject({ image, weight: weight.default(1) })])
  .transform((one) => (typeof one === 'object' && 'image' in one ? one : { image: one, weight: 1 }));

/** What one picture shows. */
const subject = {
  prompt: z.string().default('').describe('text'),
  imagePrompts: z
    .array(weightedImage)
    .default([])
    .describe('pictures to follow, each with an optional weight'),
  seed: z.int('must be a whole number').min(0, 'must be at least 0').default(0).describe('of the noise'),
};

export const jobSchema = z.strictObject(subject);

export const generateOptionsSchema = z.strictObject({
  ...subject,
  numImages: count.default(1).describe('pictures; the n-th has the seed plus n'),
  ...drawOptionsSchema.shape,
});

export const embedOptionsSchema = z.strictObject({
  imageEncoder: path.describe(
    'CLIP image encoder: a folder in the transformers layout, or a name on the Hub',
  ),
  images: z.array(path).min(1, 'must not be empty').describe('pictures'),
  imageFit,
  out: z
    .string()
    .regex(/\.safetensors$/, 'must end in .safetensors')
    .describe('file to write, ending in .safetensors'),
  ...targetOptions,
});

export type EmbedOptions = z.input<typeof embedOptionsSchema>;
export type ImagePrompt = z.input<typeof weightedImage>;
export type Job = z.input<typeof jobSchema>;
export type ResolvedJob = z.output<typeof jobSchema>;
export type DrawOptions = z.input<typeof drawOptionsSchema>;
export type ResolvedDrawOptions = z.output<typeof drawOptionsSchema>;
export type GenerateOptions = z.input<typeof generateOptionsSchema>;

function isRgbImage(value: unknown): boolean {
  const { data, width, height } = (value ?? {}) as Partial<RgbImage>;
  return data instanceof Uint8Array && data.length > 0 && data.length === Number(width) * Number(height) * 3;
}
