/** @file Paths as the files of images name them, which others read. */
import { basename, isAbsolute } from 'node:path';

/** Returns the last part of an absolute path; other paths and names on the Hub as they are. */
export function shownPath(path: string): string {
  return isAbsolute(path) ? basename(path) : path;
}
