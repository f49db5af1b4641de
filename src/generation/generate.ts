/** @file Images from models and prompts in one call: the models are loaded, used once and released. */
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { partOf, type RunContext, withContext } from '../base/run-context.js';
import {
  adapterEntries,
  adapterKeys,
  generateOptionsSchema,
  type LoadedAdapter,
  promptOptionsSchema,
  referenceKeys,
} from '../options/generate-options.js';
import type { GenerateOptions, Job, PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { assertConsistent, referenceImages } from '../options/reference-options.js';
import type { References } from '../options/reference-types.js';
import { isFeaturesFile } from './embedding-files.js';
import type { GeneratedImage } from './generated-image.js';
import { IPAdapterPipeline } from './pipeline.js';
import { assertSourceOptions } from './sources.js';
import { without } from './without.js';

/**
 * Generates images of one prompt, the n-th with the seed plus n. To use the same models again, load an
 * `IPAdapterPipeline`.
 * @throws ConfigError, CheckpointError where an option or a file is at fault; the signal's reason where it was aborted
 */
export async function generate(
  options: GenerateOptions,
  context: RunContext = {},
): Promise<GeneratedImage[]> {
  const images: GeneratedImage[] = [];
  for await (const batch of generateBatches(options, context)) images.push(...batch);
  return images;
}

/**
 * Does the same as `generate`, and yields each batch when it is finished.
 * @param prompts options that replace those of the same name, one image or more for each
 * @throws as `generate`
 */
export async function* generateBatches(
  options: GenerateOptions,
  context: RunContext,
  prompts: readonly PromptOptions[] = [{}],
): AsyncGenerator<GeneratedImage[]> {
  const { models, draw, references } = split(options);
  const calls = prompts.map((prompt) => callOf(draw, references, prompt));
  // Each call as a whole: a prompt may bring what the others lack.
  for (const call of calls)
    assertSourceOptions(resolveOptions(promptOptionsSchema, call), models.controlnet?.length ?? 0);
  using pipeline = await load(models, references, context);
  for (const [i, call] of calls.entries())
    yield* pipeline.generateBatches(call, partOf(context, i, calls.length));
}

/**
 * Generates one image as it was in a batch, to the bit: products of matrices of another size are rounded differently, so the
 * whole batch is computed.
 * @throws as `generate`
 */
export async function generateInBatch(
  options: GenerateOptions,
  [row, size]: readonly [row: number, size: number],
  context: RunContext,
): Promise<GeneratedImage> {
  const { models, draw, references } = split(options);
  const { prompt, seed, numImages: _, ...settings } = draw;
  const subject = Object.keys(referenceImages) as (keyof typeof referenceImages)[];
  const job = { prompt, seed, adapters: references.map((one) => pick(one, subject)) };
  using pipeline = await load(models, references, context);
  const images = await pipeline.generateEach(
    Array<Job>(size).fill(job),
    { ...settings, adapters: references.map((one) => without(one, subject)), batchSize: size },
    context,
  );
  return images[row] as GeneratedImage;
}

/** Separates the options of the models, of adapters' references, and all others. */
function split(options: GenerateOptions): {
  models: PipelineOptions & { controlnet?: string[] | undefined };
  draw: Omit<z.output<typeof promptOptionsSchema>, 'adapters' | keyof References>;
  references: References[];
} {
  const { model, loras, controlnet, device, dtype, threads, ...prompt } = resolveOptions(
    generateOptionsSchema,
    options,
  );
  const keys = [...adapterKeys, ...referenceKeys];
  const entries = adapterEntries<LoadedAdapter & References>(prompt, keys);
  const draw = without(prompt, [...keys, 'adapters']);
  for (const entry of entries) {
    assertComplete(entry);
    assertConsistent(entry);
  }
  const used = entries.filter((entry) => entry.adapter !== undefined);
  const adapters = used.map(({ adapter, imageEncoder }) => ({ adapter: adapter as string, imageEncoder }));
  return {
    models: { model, loras, controlnet, device, dtype, threads, adapters },
    draw,
    references: used.map((entry) => without(entry, adapterKeys)),
  };
}

async function load(
  models: PipelineOptions,
  references: readonly References[],
  context: RunContext,
): Promise<IPAdapterPipeline> {
  return withContext(context, async (guarded) => {
    const loaded = await IPAdapterPipeline.load(models, guarded);
    for (const line of loaded.summary) guarded.onMessage(line);
    if (references.every(({ images }) => !images?.length))
      guarded.onMessage('No --images: the generated images follow the text alone.');
    return loaded;
  });
}

/** Returns the options of one call: those of all, with those of a prompt in their place. */
function callOf(
  draw: Omit<PromptOptions, 'adapters'>,
  references: readonly References[],
  prompt: PromptOptions,
): PromptOptions {
  const replaced = adapterEntries<References>(prompt as References, referenceKeys);
  if (replaced.length > 0 && replaced.length !== references.length)
    throw new ConfigError(
      `A prompt has settings for ${replaced.length} adapters and ${references.length} are loaded; give adapters, with an entry for each`,
    );
  const adapters = references.map((one, i) => ({ ...one, ...replaced[i] }));
  return { ...draw, ...without(prompt, [...referenceKeys, 'adapters']), adapters };
}

function pick<T extends object, K extends keyof T>(object: T, keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, object[key]])) as Pick<T, K>;
}

/** @throws ConfigError where images have no adapter or encoder that reads them */
function assertComplete({ adapter, imageEncoder, images = [] }: LoadedAdapter & References): void {
  if (images.length > 0 && adapter === undefined)
    throw new ConfigError('--adapter (adapter) is required for --images: the adapter that reads images');
  if (imageEncoder === undefined && images.some((image) => !isFeaturesFile(image)))
    throw new ConfigError(
      '--image-encoder (imageEncoder) is required for --images; only embeddings of ip-adapter embed need none',
    );
}
