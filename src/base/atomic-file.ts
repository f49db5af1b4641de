/** @file Writes files atomically: under a temporary name, synced, then renamed. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { isSystemError } from './errors.js';

/** Linux takes at most 2 GiB in one write. */
const MAX_WRITE = 1 << 30;

/** Creates or replaces `path` with the bytes that `write` appends. If `write` throws, `path` is unchanged. */
export function writeFileAtomically(
  path: string,
  write: (append: (bytes: Uint8Array) => void) => void,
): void {
  const temporary = `${path}.partial`;
  const file = openSync(temporary, 'w');
  try {
    write((bytes) => {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file, bytes, done, Math.min(bytes.length - done, MAX_WRITE));
      }
    });
    fsyncSync(file);
  } catch (error) {
    rmSync(temporary, { force: true });
    // The system's message does not name the file, as on a full disk.
    if (isSystemError(error)) error.message += ` '${path}'`;
    throw error;
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
