/** @file The options of an evaluation: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { drawOptionsSchema, pipelineOptionsSchema } from './generate-options.js';
import { count, datasetOptions, path } from './options.js';

export const evaluateOptionsSchema = z.strictObject({
  ...pipelineOptionsSchema.shape,
  imageEncoder: path.describe(
    'CLIP image encoder that the adapter was trained with: folder or name on the Hub',
  ),
  adapter: path.describe('IP-Adapter Plus: .safetensors, .bin, checkpoint folder or name on the Hub'),
  ...datasetOptions,
  maxRows: z
    .int('must be a whole number')
    .min(2, 'must be at least 2: retrieval is among them')
    .default(64)
    .describe('rows used, from the first on; retrieval is among so many pictures'),
  imagesPerRow: count.default(1).describe('pictures drawn for each row'),
  text: z
    .enum(['none', 'caption'])
    .default('none')
    .describe("text prompt beside the picture: none, or the row's caption"),
  ...drawOptionsSchema.omit({ scale: true, imageFit: true }).shape,
  scale: z
    .array(z.number().min(0, 'must be at least 0'))
    .min(1)
    .default([0, 1])
    .describe('scales of the image prompt, one after the other; 0 is without adapter (default: 0 1)'),
  seed: z
    .int('must be a whole number')
    .min(0, 'must be at least 0')
    .default(0)
    .describe('of the first picture; each next has one more'),
  batchSize: count.default(16).describe('pictures drawn at the same time'),
  metricEncoder: path
    .optional()
    .describe(
      'what measures: a whole CLIP model or an image encoder, folder or name on the Hub; default: --image-encoder',
    ),
  metricTextEncoder: path
    .optional()
    .describe(
      'for CLIP-T where --metric-encoder has no text: the CLIP text encoder that belongs to it, folder or name on the Hub',
    ),
});

export type EvaluateOptions = z.input<typeof evaluateOptionsSchema>;
export type ResolvedEvaluateOptions = z.output<typeof evaluateOptionsSchema>;
