import { join } from 'node:path';
import { expect, expectTypeOf, it } from 'vitest';
import type { z } from 'zod';
import type { checkOptionsSchema } from '../src/options/check-options.js';
import { embedOptionsSchema } from '../src/options/embed-options.js';
import { evaluateOptionsSchema } from '../src/options/evaluate-options.js';
import {
  type drawOptionsSchema,
  generateOptionsSchema,
  type jobSchema,
  type pipelineOptionsSchema,
  type promptOptionsSchema,
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
import { typeFiles } from './option-types.js';

const options = join(import.meta.dirname, '../src/options');

it.each(Object.entries(typeFiles()))('%s is what the schemas say', async (file, content) => {
  await expect(content).toMatchFileSnapshot(join(options, file));
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
