/**
 * @file SHA-256 of each file of a folder, in the file SHA256SUMS beside them: `sha256sum -c SHA256SUMS` checks it as
 * well. A byte that a disk, a copy or a full quota has damaged is found before the file is used.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from './errors.js';

const checksumsFile = 'SHA256SUMS';

/** Writes and syncs the file, for all the files that are in the folder now. */
export function writeChecksums(folder: string): void {
  const lines = readdirSync(folder)
    .sort()
    .map((name) => `${sha256(join(folder, name))}  ${name}\n`);
  writeFileSync(join(folder, checksumsFile), lines.join(''), { flush: true });
}

/**
 * @param required files that must be there
 * @throws CheckpointError that names the file which is missing or is not as it was written
 */
export function verifyChecksums(folder: string, required: readonly string[]): void {
  const checksums = readChecksums(folder);
  for (const name of required)
    if (!checksums.has(name))
      throw new CheckpointError(`${join(folder, checksumsFile)} is damaged: Expected ${name} in it`);
  for (const [name, hash] of checksums) {
    const file = join(folder, name);
    if (orMissing(file, sha256) !== hash)
      throw new CheckpointError(
        `${file} is damaged: its SHA-256 is not the one in ${checksumsFile}, so it was cut short or changed after it was written`,
      );
  }
}

function readChecksums(folder: string): Map<string, string> {
  const file = join(folder, checksumsFile);
  const text = orMissing(file, (path) => readFileSync(path, 'utf8'));
  const lines = text.split('\n').slice(0, -1);
  const entries = lines.map((line): [string, string] => {
    const [, hash, name] = /^([0-9a-f]{64}) {2}([^/]+)$/.exec(line) ?? [];
    if (hash === undefined || name === undefined || !text.endsWith('\n'))
      throw new CheckpointError(`${file} is damaged: Expected a SHA-256 and a name but received ${line}`);
    return [name, hash];
  });
  return new Map(entries);
}

function orMissing<T>(file: string, read: (file: string) => T): T {
  try {
    return read(file);
  } catch (cause) {
    throw new CheckpointError(`Expected a file ${file} but it cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Read by pieces: files are larger than what Node reads at once. */
const PIECE_BYTES = 4 * 2 ** 20;

function sha256(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  const file = openSync(path, 'r');
  try {
    for (let length = readSync(file, piece); length > 0; length = readSync(file, piece))
      hash.update(piece.subarray(0, length));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}
