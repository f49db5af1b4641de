/** @file Whether a path stays in some folders, wherever its links lead. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';

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
