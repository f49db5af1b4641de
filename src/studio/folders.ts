/** @file The folders that the studio may read and write. */
import { constants, existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { isSystemError } from '../base/errors.js';
import { isWithin } from '../base/within-folders.js';

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
