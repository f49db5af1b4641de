/**
 * @file The folders `checkpoint-N` of an output folder. A folder of that name is always complete, even after a kill: it is
 * created and deleted by a rename, and incomplete folders have names that begin with a dot.
 *
 *     .checkpoint-N.partial    being written
 *     .checkpoint-N.replaced   complete; kept until the new one of the same name is in its place
 *     .checkpoint-N.deleted    being deleted
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { listCheckpoints, stepOf } from '../../adapters/adapter-path.js';
import { makeFolder } from '../../base/make-folder.js';

export function checkpointPath(outputDir: string, step: number): string {
  return join(outputDir, `checkpoint-${step}`);
}

/**
 * Creates or replaces the folder `path` with the files that `write` creates in it. If `write` throws, nothing has changed.
 */
export function writeFolder(path: string, write: (folder: string) => void): void {
  const partial = hidden(path, 'partial');
  makeFolder(dirname(path));
  rmSync(partial, { recursive: true, force: true });
  try {
    mkdirSync(partial);
    write(partial);
    syncFolder(partial);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
  const replaced = hidden(path, 'replaced');
  rmSync(replaced, { recursive: true, force: true });
  if (existsSync(path)) renameSync(path, replaced);
  renameSync(partial, path);
  syncFolder(dirname(path));
  rmSync(replaced, { recursive: true, force: true });
}

/**
 * Deletes the oldest checkpoints so that `limit` are left of those up to `newest`. Later checkpoints, which exist if the run
 * was resumed from an earlier one, are not deleted.
 * @param best the step of a checkpoint that is kept in any case, and does not count
 */
export function deleteOldest(newest: string, limit: number, best: number | undefined): void {
  const older = olderThan(newest).filter((path) => stepOf(path) !== best);
  for (const path of older.slice(0, Math.max(0, older.length + 1 - limit))) {
    const deleted = hidden(path, 'deleted');
    rmSync(deleted, { recursive: true, force: true });
    renameSync(path, deleted);
    rmSync(deleted, { recursive: true, force: true });
  }
}

/** Makes the link `best` in an output folder lead to a checkpoint of it. */
export function linkBest(outputDir: string, step: number): void {
  const link = join(outputDir, 'best');
  const fresh = join(outputDir, '.best');
  rmSync(fresh, { force: true });
  symlinkSync(basename(checkpointPath(outputDir, step)), fresh);
  renameSync(fresh, link);
}

/** Returns the checkpoints of the same folder with fewer steps, oldest first. */
export function olderThan(newest: string): string[] {
  return listCheckpoints(dirname(newest)).filter((path) => stepOf(path) < stepOf(newest));
}

/**
 * Renames a replaced checkpoint back if the run was killed before the new one was in its place. Call it before searching for
 * checkpoints: it may be the only one.
 */
export function restoreReplaced(outputDir: string): void {
  for (const { path, visible } of leftovers(outputDir, 'replaced'))
    if (!existsSync(visible)) renameSync(path, visible);
}

/** Deletes the incomplete folders that a killed run has left. */
export function clearLeftovers(outputDir: string): void {
  restoreReplaced(outputDir);
  for (const { path } of leftovers(outputDir, 'partial|replaced|deleted'))
    rmSync(path, { recursive: true, force: true });
}

/** Returns hidden checkpoint folders and their visible paths. @param kinds a regular expression */
function leftovers(outputDir: string, kinds: string): { path: string; visible: string }[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir).flatMap((name) => {
    const [, visible] = new RegExp(`^\\.(checkpoint-\\d+)\\.(?:${kinds})$`).exec(name) ?? [];
    return visible === undefined ? [] : [{ path: join(outputDir, name), visible: join(outputDir, visible) }];
  });
}

function hidden(path: string, kind: 'partial' | 'replaced' | 'deleted'): string {
  return join(dirname(path), `.${basename(path)}.${kind}`);
}

/** Writes a folder to disk. A rename is durable only after the folder that contains the name is. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
