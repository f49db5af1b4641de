/**
 * @file The folders `checkpoint-N` of an output folder. Whatever the moment of a kill, a folder of that name is whole:
 * it comes and goes by a rename, and all that is half done has a name that begins with a dot.
 *
 *     .checkpoint-N.partial    being written
 *     .checkpoint-N.replaced   whole, until the new one of the same name has taken its place
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
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { makeFolder } from '../../base/make-folder.js';

export function checkpointPath(outputDir: string, step: number): string {
  return join(outputDir, `checkpoint-${step}`);
}

export function stepOf(path: string): number {
  return Number(basename(path).slice('checkpoint-'.length));
}

/** The checkpoints of an output folder, oldest first; none where the folder is not there. */
export function listCheckpoints(outputDir: string): string[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => stepOf(a) - stepOf(b))
    .map((name) => join(outputDir, name));
}

/**
 * Has `write` fill a folder, and gives it the name `path`; one of that name is replaced. Where `write` throws, nothing
 * has changed.
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
 * Deletes checkpoints until `limit` are left of those up to `newest`, which is never deleted. Later ones are left alone:
 * they are there where a run was resumed from an earlier checkpoint than its last.
 */
export function deleteOldest(newest: string, limit: number): void {
  const before = listCheckpoints(dirname(newest)).filter((path) => stepOf(path) < stepOf(newest));
  for (const path of before.slice(0, Math.max(0, before.length + 1 - limit))) {
    const deleted = hidden(path, 'deleted');
    rmSync(deleted, { recursive: true, force: true });
    renameSync(path, deleted);
    rmSync(deleted, { recursive: true, force: true });
  }
}

/** Finishes or takes back what a run that was killed has left half done. */
export function clearLeftovers(outputDir: string): void {
  if (!existsSync(outputDir)) return;
  for (const name of readdirSync(outputDir)) {
    const [, visible = '', kind] = /^\.(checkpoint-\d+)\.(partial|replaced|deleted)$/.exec(name) ?? [];
    if (kind === undefined) continue;
    const path = join(outputDir, visible);
    if (kind === 'replaced' && !existsSync(path)) renameSync(join(outputDir, name), path);
    else rmSync(join(outputDir, name), { recursive: true, force: true });
  }
}

function hidden(path: string, kind: 'partial' | 'replaced' | 'deleted'): string {
  return join(dirname(path), `.${basename(path)}.${kind}`);
}

// A rename is lasting only when the folder that holds the name is.
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
