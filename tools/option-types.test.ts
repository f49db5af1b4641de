import { join } from 'node:path';
import { expect, expectTypeOf, it } from 'vitest';
import type { z } from 'zod';
import { checkOptionsSchema } from '../src/options/check-options.js';
import { embedOptionsSchema } from '../src/options/embed-options.js';
import { evaluateOptionsSchema } from '../src/options/evaluate-options.js';
import {
  drawOptionsSchema,
  generateOptionsSchema,
  jobSchema,
  pipelineOptionsSchema,
  promptOptionsSchema,
} from '../src/options/generate-options.js';
import type {
  DrawOptions,
  EmbedOptions,
  EvaluateOptions,
  GenerateOptions,
  Job,
  PipelineOptions,
  PromptOptions,
} from '../src/options/generate-types.js';
import { trainOptionsSchema } from '../src/options/train-options.js';
import type { CheckOptions, TrainOptions } from '../src/options/train-types.js';
import { optionTypes } from './option-types.js';

const options = join(import.meta.dirname, '../src/options');

it('the types of options are what the schemas say', async () => {
  const training = optionTypes({
    TrainOptions: ['The options of `train` and `dryRun`.', trainOptionsSchema],
    CheckOptions: ['The options of `checkDataset`.', checkOptionsSchema],
  });
  await expect(training).toMatchFileSnapshot(join(options, 'train-types.ts'));
  const generation = optionTypes(
    {
      GenerateOptions: ['The options of `generate`: models and prompts.', generateOptionsSchema],
      PipelineOptions: ['The models of an `IPAdapterPipeline`.', pipelineOptionsSchema],
      PromptOptions: ['The options of `pipeline.generate`.', promptOptionsSchema],
      Job: ['What one image of `pipeline.generateEach` shows.', jobSchema],
      DrawOptions: ['How the images of `pipeline.generateEach` are generated.', drawOptionsSchema],
      EmbedOptions: ['The options of `embed`.', embedOptionsSchema],
      EvaluateOptions: ['The options of `evaluate`.', evaluateOptionsSchema],
    },
    ["import type { RgbImage } from '../base/rgb-image.js';"],
  );
  await expect(generation).toMatchFileSnapshot(join(options, 'generate-types.ts'));
});

it('the compiler agrees', () => {
  expectTypeOf<TrainOptions>().toEqualTypeOf<z.input<typeof trainOptionsSchema>>();
  expectTypeOf<CheckOptions>().toEqualTypeOf<z.input<typeof checkOptionsSchema>>();
  expectTypeOf<GenerateOptions>().toEqualTypeOf<z.input<typeof generateOptionsSchema>>();
  expectTypeOf<PipelineOptions>().toEqualTypeOf<z.input<typeof pipelineOptionsSchema>>();
  expectTypeOf<PromptOptions>().toEqualTypeOf<z.input<typeof promptOptionsSchema>>();
  expectTypeOf<Job>().toEqualTypeOf<z.input<typeof jobSchema>>();
  expectTypeOf<DrawOptions>().toEqualTypeOf<z.input<typeof drawOptionsSchema>>();
  expectTypeOf<EmbedOptions>().toEqualTypeOf<z.input<typeof embedOptionsSchema>>();
  expectTypeOf<EvaluateOptions>().toEqualTypeOf<z.input<typeof evaluateOptionsSchema>>();
});

it('every option has a description', () => {
  const schemas = [trainOptionsSchema, generateOptionsSchema, evaluateOptionsSchema, embedOptionsSchema];
  for (const schema of schemas)
    for (const [key, { description }] of Object.entries(schema.shape))
      expect([key, description]).toEqual([key, expect.stringMatching(/^[^\n]{5,}[^.\n]$/)]);
});
