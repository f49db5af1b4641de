/**
 * @file The options of a dataset check: the training options that decide what is read, how it is batched, and what the
 * encoders see of it.
 */
import { path, whole } from './options.js';
import { pairOptions } from './pair-options.js';
import { trainOptionsSchema } from './train-options.js';

export const checkOptionsSchema = trainOptionsSchema
  .pick({
    dataset: true,
    datasetRoot: true,
    shardCacheSize: true,
    openShards: true,
    resolution: true,
    buckets: true,
    randomFlip: true,
    batchSize: true,
    seed: true,
  })
  .extend(pairOptions)
  .extend({
    model: path
      .optional()
      .describe('Stable Diffusion whose tokenizer counts the tokens of captions; default: no count'),
    imageEncoder: path
      .optional()
      .describe('image encoder in the transformers layout, whose preprocessing --show draws with'),
    show: whole(1, 64)
      .optional()
      .describe(
        'rows to draw on a contact sheet as the encoders see them in the first epoch, after masks and random changes; default: none',
      ),
  });
