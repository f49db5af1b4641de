/** @file Making a folder together with those around it. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a folder, and the folders around it that are missing. `mkdirSync` with `recursive` is not used: in Node 20 it
 * never returns where the system says of a folder that is there that it is not, as below /proc.
 * @returns the outermost folder that was missing; undefined where none was
 * @throws the system's error where a folder cannot be made, or where something else has its name
 */
export function makeFolder(path: string): string | undefined {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const parent = dirname(path);
  const made = parent === path ? undefined : makeFolder(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Another process may have made it in between.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
  return made ?? path;
}
