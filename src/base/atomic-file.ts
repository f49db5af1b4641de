/** @file Writes files atomically: under a temporary name, synced, then renamed. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { isSystemError } from './errors.js';

/** Linux takes at most 2 GiB in one write. */
const MAX_WRITE = 1 << 30;
/** Small pieces are gathered up to so many bytes. */
const GATHERED_BYTES = 2 ** 20;

/** What can be done, by what the system refuses. */
const remedies: Record<string, string> = {
  ENOSPC: 'make room on its disk, or give another folder',
  EDQUOT: 'make room in its quota, or give another folder',
  EACCES: 'make its folder writable, or give another one',
  EPERM: 'make its folder writable, or give another one',
  EROFS: 'its disk is read-only; give another folder',
  EIO: 'its disk or network fails; try again, or give another folder',
};

/**
 * Creates or replaces `path` with the bytes that `write` appends. If `write` throws, `path` is unchanged.
 * @throws the system's error, with the path and a remedy in its message
 */
export function writeFileAtomically(
  path: string,
  write: (append: (bytes: Uint8Array) => void) => void,
): void {
  const temporary = `${path}.partial`;
  try {
    const file = openSync(temporary, 'w');
    try {
      const waiting: Uint8Array[] = [];
      let waitingBytes = 0;
      const flush = (): void => {
        writeAll(file, Buffer.concat(waiting.splice(0)));
        waitingBytes = 0;
      };
      write((bytes) => {
        // Hundreds of small tensors are one write; a large one is not copied.
        if (waitingBytes + bytes.length > GATHERED_BYTES) flush();
        if (bytes.length > GATHERED_BYTES) writeAll(file, bytes);
        else {
          // The caller may use its memory again.
          waiting.push(bytes.slice());
          waitingBytes += bytes.length;
        }
      });
      flush();
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    if (isSystemError(error)) explain(error, path);
    removeQuietly(temporary);
    throw error;
  }
}

/** Writes all bytes to an open file: the system may take fewer at a time, as where the disk is nearly full. */
export function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(file, bytes, done, Math.min(bytes.length - done, MAX_WRITE));
}

/** The system does not say which file it had no room for. */
function explain(error: NodeJS.ErrnoException, path: string): void {
  const [what] = error.message.split(` '`);
  const remedy = remedies[error.code ?? ''];
  error.message = `${what} '${path}'${remedy === undefined ? '' : `: ${remedy}`}`;
}

/** The error that led here is the one to be told. */
function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
