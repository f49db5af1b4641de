/** @file Lists the files in a folder and its subfolders. */
import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatasetError } from '../base/errors.js';
import type { BadRow } from '../base/listing.js';

export interface FolderFiles {
  /** Paths relative to the folder, sorted. */
  readonly names: readonly string[];
  /** Folders that are not hidden and were not entered. */
  readonly leftOut: readonly BadRow[];
}

/**
 * Lists the files of a folder and its subfolders, and follows links. It leaves out hidden files, the files that macOS adds to
 * archives (`__MACOSX`), and the outputs of training runs, whose validation images are not part of a dataset.
 * @param outputDir the output folder of the run that reads the dataset
 * @throws DatasetError where a folder cannot be listed
 */
export function filesIn(folder: string, outputDir?: string): FolderFiles {
  const names: string[] = [];
  const leftOut: BadRow[] = [];
  const realOutputDir = outputDir === undefined ? null : realPath(outputDir);
  const enter = (path: string, name: string, parents: readonly string[]): void => {
    const real = realPath(path) as string;
    const entries = list(path);
    const reason = parents.includes(real)
      ? 'a link to a folder that contains it'
      : name !== '' && (real === realOutputDir || isRunOutput(entries))
        ? 'the output folder of a training run'
        : null;
    if (reason !== null) {
      leftOut.push({ file: path, reason });
      return;
    }
    for (const entry of entries) {
      if (isHidden(entry.name)) continue;
      const inside = name === '' ? entry.name : join(name, entry.name);
      if (isFolder(entry, join(path, entry.name))) enter(join(path, entry.name), inside, [...parents, real]);
      else names.push(inside);
    }
  };
  enter(folder, '', []);
  return { names: names.sort(), leftOut };
}

/** Returns whether a file or folder is hidden or added by macOS. `._1.jpg` has the attributes of `1.jpg`. */
function isHidden(name: string): boolean {
  return name.startsWith('.') || name === '__MACOSX';
}

/** Returns whether a member of a tar was added by macOS. Other names that begin with a dot are read, as in version 0.1. */
export function isAddedByMacOs(path: string): boolean {
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

/** Returns the path without links; null where there is no such file. */
function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
