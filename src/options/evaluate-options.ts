/** @file The options of an evaluation: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { drawOptionsSchema, pipelineOptionsSchema } from './generate-options.js';
import { metricOptions } from './metric-options.js';
import { count, datasetOptions, number, path, seed, whole } from './options.js';
import { sourceOptions } from './source-options.js';

const pipeline = pipelineOptionsSchema.omit({ adapters: true, controlnet: true }).shape;

/** A measure of an adapter has no other sources of images. */
const sources = Object.fromEntries(Object.keys(sourceOptions).map((key) => [key, true])) as {
  [key in keyof typeof sourceOptions]: true;
};

export const evaluateOptionsSchema = z.strictObject({
  ...pipeline,
  imageEncoder: path.describe('image encoder that the adapter was trained with: folder or name on the Hub'),
  adapter: z
    .union([path.transform((one) => [one]), z.array(path).min(1, 'must name one adapter at least')], {
      error: 'must be a path, or a list of paths',
    })
    .describe(
      'IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub; several are compared with the first, image by image',
    ),
  ...datasetOptions,
  maxRows: whole(2).default(64).describe('rows to use, from the first on; retrieval is among so many images'),
  imagesPerRow: whole(1, 1000).default(1).describe('images to generate for each row'),
  text: z
    .enum(['none', 'caption'])
    .default('none')
    .describe("text prompt beside the image: none, or the row's caption"),
  ...drawOptionsSchema.omit({ scale: true, influence: true, imageFit: true, adapters: true, ...sources })
    .shape,
  scales: z
    .array(number(0, 1e4))
    .min(1, 'must not be empty')
    .default([0, 1])
    .describe('scales of the image prompt to compare; 0 is without adapter; default: 0 1'),
  seed: seed.default(0).describe('seed of the first image; each next one has one more'),
  batchSize: count.default(16).describe('images generated at the same time'),
  ...metricOptions,
});

export type ResolvedEvaluateOptions = z.output<typeof evaluateOptionsSchema>;
