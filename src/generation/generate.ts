/** @file Images from models and prompts in one call: the models are loaded, used once and released. */

import { ConfigError } from '../base/errors.js';
import { type RunContext, withContext } from '../base/run-context.js';
import {
  adapterEntries,
  adapterKeys,
  generateOptionsSchema,
  type ImagePromptOptions,
  type LoadedAdapter,
  referenceKeys,
} from '../options/generate-options.js';
import type { GenerateOptions } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { assertConsistent } from '../options/reference-options.js';
import { isFeaturesFile } from './embedding-files.js';
import type { GeneratedImage } from './generated-image.js';
import { IPAdapterPipeline } from './pipeline.js';
import { assertSourceOptions } from './sources.js';

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

/** Does the same as `generate`, and yields each batch when it is finished. */
export async function* generateBatches(
  options: GenerateOptions,
  context: RunContext,
): AsyncGenerator<GeneratedImage[]> {
  const { model, loras, controlnet, device, dtype, threads, ...prompt } = resolveOptions(
    generateOptionsSchema,
    options,
  );
  const keys = [...adapterKeys, ...referenceKeys];
  const entries = adapterEntries<LoadedAdapter & ImagePromptOptions>(prompt, keys);
  const rest = without(prompt, [...keys, 'adapters']);
  for (const entry of entries) {
    assertComplete(entry);
    assertConsistent(entry);
  }
  assertSourceOptions(rest, controlnet?.length ?? 0);
  const used = entries.filter((entry) => entry.adapter !== undefined);
  const loaded = used.map(({ adapter, imageEncoder }) => ({ adapter: adapter as string, imageEncoder }));
  const models = { model, loras, controlnet, device, dtype, threads, adapters: loaded };
  const prompts = used.map((entry) => without(entry, adapterKeys));
  using pipeline = await withContext(context, async (guarded) => {
    const loaded = await IPAdapterPipeline.load(models, guarded);
    for (const line of loaded.summary) guarded.onMessage(line);
    if (used.every((entry) => !entry.images?.length))
      guarded.onMessage('No --images: the generated images follow the text alone.');
    return loaded;
  });
  yield* pipeline.generateBatches({ ...rest, adapters: prompts }, context);
}

/** Returns the other properties of an object. */
function without<T extends object, K extends keyof T>(object: T, keys: readonly K[]): Omit<T, K> {
  const others = Object.entries(object).filter(([key]) => !keys.includes(key as K));
  return Object.fromEntries(others) as Omit<T, K>;
}

/** @throws ConfigError where images have no adapter or encoder that reads them */
function assertComplete({ adapter, imageEncoder, images = [] }: LoadedAdapter & ImagePromptOptions): void {
  if (images.length > 0 && adapter === undefined)
    throw new ConfigError('--adapter (adapter) is required for --images: the adapter that reads images');
  if (imageEncoder === undefined && images.some((image) => !isFeaturesFile(image)))
    throw new ConfigError(
      '--image-encoder (imageEncoder) is required for --images; only embeddings of ip-adapter embed need none',
    );
}
