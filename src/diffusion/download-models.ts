/** @file The models that a user names: those that are on the Hub and not here are downloaded before any is opened. */
import { statSync } from 'node:fs';
import { resolveModelPath } from '../hub/cache.js';
import { type DownloadHooks, ensureDownloaded } from '../hub/download.js';
import type { ModelKind } from '../hub/model-files.js';
import { tokenizerBeside, tokenizerRepo } from './model-parts.js';

/**
 * From here on, all these models are paths or in the Hub's cache. A Stable Diffusion that is one file gets a tokenizer too.
 * @throws CheckpointError where one is neither here nor can be downloaded; the signal's reason
 */
export async function downloadModels(
  names: Partial<Record<ModelKind, string | undefined>>,
  hooks: DownloadHooks,
): Promise<void> {
  for (const [kind, name] of Object.entries(names))
    if (name !== undefined) await ensureDownloaded(name, kind as ModelKind, hooks);
  if (names.stableDiffusion === undefined) return;
  const path = resolveModelPath(names.stableDiffusion);
  if (statSync(path).isFile() && tokenizerBeside(path) === null)
    await ensureDownloaded(tokenizerRepo, 'tokenizer', hooks);
}
