/** @file Downloads the models that a user names from the Hub, before any of them is opened. */
import { statSync } from 'node:fs';
import { UserError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { type DownloadHooks, ensureDownloaded } from '../hub/download.js';
import type { ModelKind } from '../hub/model-files.js';
import { tokenizerBeside, tokenizerRepo } from './model-parts.js';

type NamedKind = Exclude<ModelKind, 'tokenizer'>;

/** The options that name models, for errors. */
const optionNames: Record<NamedKind, string> = {
  stableDiffusion: '--model (model)',
  adapter: '--adapter (adapter)',
  imageEncoder: '--image-encoder (imageEncoder)',
  textEncoder: '--metric-text-encoder (metricTextEncoder)',
  lora: '--lora (loras)',
  controlnet: '--controlnet (controlnet)',
};

/**
 * Downloads the models that are neither on this machine nor in the Hub's cache. A Stable Diffusion model in one file
 * gets a tokenizer too.
 * @param otherOptions the options that name models here, where they are not the usual ones
 * @returns the path of each model
 * @throws CheckpointError, with the option's name, where one is neither here nor can be downloaded; the signal's reason
 */
export async function downloadModels(
  names: Partial<Record<NamedKind, string | undefined>>,
  hooks: DownloadHooks,
  otherOptions: Partial<Record<NamedKind, string>> = {},
): Promise<Map<NamedKind, string>> {
  const paths = new Map<NamedKind, string>();
  for (const [kind, name] of Object.entries(names) as [NamedKind, string | undefined][]) {
    if (name === undefined) continue;
    try {
      await ensureDownloaded(name, kind, hooks);
      paths.set(kind, resolveModelPath(name));
    } catch (cause) {
      if (!(cause instanceof UserError)) throw cause;
      const ErrorClass = cause.constructor as typeof UserError;
      throw new ErrorClass(`${otherOptions[kind] ?? optionNames[kind]}: ${cause.message}`, { cause });
    }
  }
  const file = paths.get('stableDiffusion');
  if (file !== undefined && statSync(file).isFile() && tokenizerBeside(file) === null)
    await ensureDownloaded(tokenizerRepo, 'tokenizer', hooks);
  return paths;
}
