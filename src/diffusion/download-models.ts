/** @file Downloads the models that a user names from the Hub, before any of them is opened. */
import { statSync } from 'node:fs';
import { resolveModelPath } from '../hub/cache.js';
import { type DownloadHooks, ensureDownloaded } from '../hub/download.js';
import type { ModelKind } from '../hub/model-files.js';
import { tokenizerBeside, tokenizerRepo } from './model-parts.js';

/**
 * Downloads the models that are neither on this machine nor in the Hub's cache. A Stable Diffusion model in one file
 * gets a tokenizer too.
 * @returns the path of each model
 * @throws CheckpointError where one is neither here nor can be downloaded; the signal's reason
 */
export async function downloadModels(
  names: Partial<Record<ModelKind, string | undefined>>,
  hooks: DownloadHooks,
): Promise<Map<ModelKind, string>> {
  const paths = new Map<ModelKind, string>();
  for (const [kind, name] of Object.entries(names) as [ModelKind, string | undefined][]) {
    if (name === undefined) continue;
    await ensureDownloaded(name, kind, hooks);
    paths.set(kind, resolveModelPath(name));
  }
  const file = paths.get('stableDiffusion');
  if (file !== undefined && statSync(file).isFile() && tokenizerBeside(file) === null)
    await ensureDownloaded(tokenizerRepo, 'tokenizer', hooks);
  return paths;
}
