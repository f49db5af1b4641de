/** @file The folders that the studio may read and write. */
import { constants, existsSync, realpathSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { isSystemError } from '../base/errors.js';

/** Returns a path without links, also of what is not there yet. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    const parent = dirname(path);
    if (parent === path) throw error;
    return join(realPath(parent), basename(path));
  }
}

/** Whether a path, with its links followed, is one of these folders or below. */
export function isWithin(path: string, folders: readonly string[]): boolean {
  const real = realPath(resolve(path));
  return folders.some((folder) => {
    const root = realPath(resolve(folder));
    return real === root || real.startsWith(root.endsWith(sep) ? root : root + sep);
  });
}

/**
 * Opens a regular file of a run to read. A link is not followed, since it may lead out of the run, and a named pipe is not waited for.
 * @returns undefined where there is none
 */
export async function openRunFile(file: string): Promise<FileHandle | undefined> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
    return undefined;
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}

/** The folders of the studio's options, absolute. */
export interface StudioFolders {
  runs: string;
  datasets: readonly string[];
  models: readonly string[];
}

/** Returns what is wrong with a path that must be in one of these folders; undefined where nothing is. */
export function folderFault(
  name: string,
  path: string,
  folders: readonly string[],
  flag: string,
): string | undefined {
  if (isWithin(path, folders)) return undefined;
  return `${name} is ${path}, which is not in ${folders.join(', ')}: start the studio with ${flag} that has it`;
}

/** Returns what is wrong with the name of a model, which is in a folder of the studio's or on the Hub; undefined where nothing is. */
export function modelFault(
  name: string,
  value: string,
  { runs, datasets, models }: StudioFolders,
): string | undefined {
  const isHubName = /^[\w.-]+\/[\w.-]+(\/[\w./-]+)?$/.test(value) && !value.includes('..');
  // A name on the Hub looks like a path, and is one where something is there.
  if (isHubName && !existsSync(value)) return undefined;
  return folderFault(name, value, [runs, ...datasets, ...models], '--models');
}
