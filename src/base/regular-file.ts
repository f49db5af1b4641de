/** @file Only regular files are opened: a named pipe would wait for a writer for ever, and a device may never end. */
import { type Stats, statSync } from 'node:fs';

/** A path leads to something that is not a file; the message is the second half of a sentence. */
export class NotAFileError extends Error {}

/**
 * Returns `path`, which can then be opened without waiting.
 * @throws NotAFileError where it is a folder, a pipe, a socket or a device; the system's error where it is missing
 */
export function regularFile(path: string): string {
  const status = statSync(path);
  if (status.isFile()) return path;
  throw new NotAFileError(`it is ${kindOf(status)}, not a file`);
}

function kindOf(status: Stats): string {
  if (status.isDirectory()) return 'a folder';
  if (status.isFIFO()) return 'a named pipe';
  return status.isSocket() ? 'a socket' : 'a device';
}
