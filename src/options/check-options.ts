/** @file The options of a dataset check: the training options that decide what is read and how it is batched. */
import { path } from './options.js';
import { trainOptionsSchema } from './train-options.js';

export const checkOptionsSchema = trainOptionsSchema
  .pick({
    dataset: true,
    datasetRoot: true,
    resolution: true,
    buckets: true,
    groupBy: true,
    captionPrefix: true,
    datasetRepeats: true,
    datasetWeights: true,
    maskedLoss: true,
    referenceMaskCrop: true,
    referenceBackground: true,
    batchSize: true,
  })
  .extend({
    model: path
      .optional()
      .describe('Stable Diffusion whose tokenizer counts the tokens of captions; default: no count'),
  });
