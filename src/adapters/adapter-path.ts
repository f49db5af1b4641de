/** @file Finds the file of an adapter that a user names: the file itself, a checkpoint, or the output folder of a run. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { verifyChecksums } from '../base/checksums.js';
import { CheckpointError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { trainingCheckpointFiles } from './training-checkpoint.js';

/** The adapter's file in a checkpoint folder. */
export const adapterFile = 'ip_adapter.safetensors';

/**
 * Returns the file of an adapter: of an output folder, that of the newest checkpoint that is whole.
 * @param nameOrPath a file, a checkpoint, an output folder of `train`, or a name on the Hub
 * @param onMessage is told which checkpoint of an output folder was chosen
 * @throws CheckpointError where there is no adapter
 */
export function adapterFileOf(nameOrPath: string, onMessage?: (text: string) => void): string {
  const path = resolveModelPath(nameOrPath);
  if (!statSync(path).isDirectory()) return path;
  const file = adapterIn(path);
  if (file !== undefined) return file;
  const checkpoints = listCheckpoints(path);
  if (checkpoints.length === 0) throw noAdapterIn(path);
  const faults: string[] = [];
  for (const checkpoint of checkpoints.reverse()) {
    const file = adapterIn(checkpoint);
    // The original's checkpoints have no checksums.
    const isOurs = file === undefined || basename(file) === adapterFile;
    try {
      if (isOurs) verifyChecksums(checkpoint, [adapterFile], true);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      faults.push(error.message);
      continue;
    }
    const skipped = faults.map((fault) => `; skipped: ${fault}`).join('');
    onMessage?.(`${path}: taking its newest checkpoint that is whole, ${basename(checkpoint)}${skipped}`);
    return file ?? join(checkpoint, adapterFile);
  }
  throw new CheckpointError(
    `Expected a checkpoint that is whole in ${path} but there is none: ${faults.join('; ')}`,
  );
}

/** Returns the adapter's file in a checkpoint of this package or of the original's training. */
function adapterIn(folder: string): string | undefined {
  return [adapterFile, ...trainingCheckpointFiles]
    .map((name) => join(folder, name))
    .find((file) => existsSync(file));
}

/** Returns the checkpoints of an output folder, oldest first; none where the folder does not exist. */
export function listCheckpoints(outputDir: string): string[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => stepOf(a) - stepOf(b))
    .map((name) => join(outputDir, name));
}

/** Returns the step of a checkpoint by its folder's name. */
export function stepOf(path: string): number {
  return Number(basename(path).slice('checkpoint-'.length));
}

function noAdapterIn(folder: string): CheckpointError {
  const names = readdirSync(folder);
  const files = names.filter((name) => /\.(safetensors|bin)$/.test(name));
  // Someone may have named the folder above.
  const nearest = names.find((name) => {
    const inner = join(folder, name);
    return (
      statSync(inner, { throwIfNoEntry: false })?.isDirectory() &&
      (adapterIn(inner) !== undefined || listCheckpoints(inner).length > 0)
    );
  });
  const remedy =
    nearest !== undefined
      ? `${join(folder, nearest)} has one`
      : files.length > 0
        ? `name the file: it holds ${files.slice(0, 5).join(', ')}${files.length > 5 ? ', …' : ''}`
        : 'give an adapter file, a checkpoint, or the output folder of a training run';
  return new CheckpointError(
    `Expected an adapter in the folder ${folder} but it has neither ${adapterFile} nor a checkpoint; ${remedy}`,
  );
}
