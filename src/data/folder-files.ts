/** @file The files in a folder and the folders inside it. */
import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatasetError } from '../base/errors.js';
import type { BadRow } from '../base/listing.js';

export interface FolderFiles {
  /** Relative to the folder, sorted. */
  readonly names: readonly string[];
  /** Folders that were not entered, though not hidden. */
  readonly leftOut: readonly BadRow[];
}

/**
 * Lists the files of a folder and those inside it, also by links. What is hidden is not listed, nor what macOS adds to
 * archives (`__MACOSX`); and the outputs of training runs are not, since the images of a run are not its dataset.
 * @param outputDir of the run that reads the dataset
 * @throws DatasetError where a folder cannot be listed
 */
export function filesIn(folder: string, outputDir?: string): FolderFiles {
  const names: string[] = [];
  const leftOut: BadRow[] = [];
  const ownOutput = outputDir === undefined ? null : realPath(outputDir);
  const enter = (path: string, name: string, around: readonly string[]): void => {
    const real = realPath(path) as string;
    const entries = list(path);
    const aside = around.includes(real)
      ? 'a link back to a folder that it is in'
      : name !== '' && (real === ownOutput || isRunOutput(entries))
        ? 'the output folder of a training run'
        : null;
    if (aside !== null) {
      leftOut.push({ file: path, reason: aside });
      return;
    }
    for (const entry of entries) {
      if (isAside(entry.name)) continue;
      const inside = name === '' ? entry.name : join(name, entry.name);
      if (isFolder(entry, join(path, entry.name))) enter(join(path, entry.name), inside, [...around, real]);
      else names.push(inside);
    }
  };
  enter(folder, '', []);
  return { names: names.sort(), leftOut };
}

/** Whether a file or folder is none of a dataset's: hidden, or what macOS adds. `._1.jpg` has the attributes of `1.jpg`. */
function isAside(name: string): boolean {
  return name.startsWith('.') || name === '__MACOSX';
}

/** The same of a member of a tar, where names that begin with a dot were always read, but for those of macOS. */
export function isMacOsAside(path: string): boolean {
  const parts = path.split('/');
  const name = parts.at(-1) as string;
  return parts.includes('__MACOSX') || name.startsWith('._') || name === '.DS_Store';
}

function isRunOutput(entries: readonly Dirent[]): boolean {
  const names = entries.map(({ name }) => name);
  return (
    names.includes('metrics.jsonl') &&
    names.some((name) => name === 'config.yaml' || /^checkpoint-\d+$/.test(name))
  );
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true, encoding: 'utf8' });
  } catch (cause) {
    throw new DatasetError(`Expected a folder to read at ${folder} but ${(cause as Error).message}.`, {
      cause,
    });
  }
}

function isFolder(entry: Dirent, path: string): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Null where there is nothing. */
function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
