/** @file The options of a pipeline and of what it generates: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { imageFits } from './image-prompt.js';
import { count, fraction, path, targetOptions } from './options.js';
import { samplerNames } from './schedulers/create.js';

export const pipelineOptionsSchema = z.strictObject({
  model: path.describe('folder of the Stable Diffusion model in the diffusers layout'),
  imageEncoder: path
    .optional()
    .describe('folder of the CLIP image encoder that the adapter was trained with; not needed for saved embeddings'),
  adapter: path.optional().describe('IP-Adapter Plus: .safetensors, .bin or checkpoint folder; default: none, text alone'),
  ...targetOptions,
});

/** What a pipeline is made of. */
export type PipelineOptions = z.input<typeof pipelineOptionsSchema>;

/** How pictures are drawn, whatever they show. */
export const drawOptionsSchema = z.strictObject({
  negativePrompt: z.string().default('').describe('text that the pictures should be unlike'),
  scale: z.number().min(0, 'must be at least 0').default(1).describe('strength of the image prompt beside the text: 0 none, 1 as trained'),
  guidanceScale: z.number().min(0, 'must be at least 0').default(7.5).describe('how far to go beyond the unguided prediction; 1: no guidance'),
  steps: count.default(30).describe('denoising steps'),
  scheduler: z.enum(samplerNames).optional().describe("sampler; default: the model's own"),
  start: fraction.default(0).describe('fraction of the steps from which the image prompt acts'),
  end: fraction.default(1).describe('fraction of the steps up to which it acts'),
  width: count.optional().describe("pixels; default: the model's own size"),
  height: count.optional().describe("pixels; default: the model's own size"),
  imageFit: z
    .enum(imageFits)
    .default('crop')
    .describe('reference pictures that are not square: crop cuts out the middle, resize squeezes the whole'),
  batchSize: count.default(4).describe('pictures drawn at the same time'),
});

/** A picture in a file or in memory, or embeddings in a `.safetensors` file; with its weight among several. */
const image = z.union([
  path,
  z.object({ data: z.instanceof(Uint8Array), width: count, height: count }),
], 'must be a path, or a picture { data, width, height }');
const weight = z.number().min(0, 'must be at least 0');
const weightedImage = z.union([image, z.strictObject({ image, weight })]);

/** What one picture shows. */
const subject = {
  prompt: z.string().default('').describe('text'),
  imagePrompts: z.array(weightedImage).default([]).describe('pictures to follow, each with an optional weight'),
  seed: z.int('must be a whole number').min(0, 'must be at least 0').default(0).describe('of the noise'),
};

export const jobSchema = z.strictObject(subject);

export const generateOptionsSchema = z.strictObject({
  ...subject,
  numImages: count.default(1).describe('pictures; the n-th has the seed plus n'),
  ...drawOptionsSchema.shape,
});

export type ImagePrompt = z.input<typeof weightedImage>;
export type Job = z.input<typeof jobSchema>;
export type DrawOptions = z.input<typeof drawOptionsSchema>;
export type ResolvedDrawOptions = z.output<typeof drawOptionsSchema>;
export type GenerateOptions = z.input<typeof generateOptionsSchema>;
