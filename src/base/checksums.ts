/**
 * @file Writes and verifies SHA256SUMS, the SHA-256 of each file of a folder, which `sha256sum -c SHA256SUMS` verifies too.
 * It detects bytes that a disk, a copy or a full quota has damaged.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomically } from './atomic-file.js';
import { CheckpointError } from './errors.js';
import { regularFile } from './regular-file.js';

export const checksumsFile = 'SHA256SUMS';

/** Writes and syncs SHA256SUMS for all files in the folder. */
export function writeChecksums(folder: string): void {
  const lines = readdirSync(folder)
    .sort()
    .map((name) => `${sha256(join(folder, name))}  ${name}\n`);
  writeFileSync(join(folder, checksumsFile), lines.join(''), { flush: true });
}

/** Returns whether SHA256SUMS lists a file. @throws CheckpointError where it is missing or damaged */
export function hasChecksum(folder: string, name: string): boolean {
  return readChecksums(folder).has(name);
}

/** Removes a file and its checksum. A kill in between leaves a file that is not listed, which verification passes over. */
export function removeWithChecksum(folder: string, name: string): void {
  const checksums = readChecksums(folder);
  checksums.delete(name);
  const lines = Array.from(checksums, ([file, hash]) => `${hash}  ${file}\n`);
  writeFileAtomically(join(folder, checksumsFile), (append) => append(Buffer.from(lines.join(''))));
  rmSync(join(folder, name), { force: true });
}

/**
 * Verifies a folder's files against its SHA256SUMS.
 * @param required files that SHA256SUMS must list
 * @param onlyRequired whether other files are left alone, which may be large
 * @throws CheckpointError naming the file that is missing or damaged
 */
export function verifyChecksums(folder: string, required: readonly string[], onlyRequired = false): void {
  const checksums = readChecksums(folder);
  for (const name of required)
    if (!checksums.has(name))
      throw new CheckpointError(`${join(folder, checksumsFile)} is damaged: it does not list ${name}`);
  for (const [name, hash] of checksums) {
    if (onlyRequired && !required.includes(name)) continue;
    const file = join(folder, name);
    if (readOrFail(file, sha256) !== hash)
      throw new CheckpointError(
        `${file} is damaged: its SHA-256 is not the one in ${checksumsFile}, so it was cut short or changed after it was written`,
      );
  }
}

function readChecksums(folder: string): Map<string, string> {
  const file = join(folder, checksumsFile);
  const text = readOrFail(file, (path) => readFileSync(regularFile(path), 'utf8'));
  const lines = text.split('\n').slice(0, -1);
  const entries = lines.map((line): [string, string] => {
    const [, hash, name] = /^([0-9a-f]{64}) {2}([^/]+)$/.exec(line) ?? [];
    if (hash === undefined || name === undefined || !text.endsWith('\n'))
      throw new CheckpointError(
        `${file} is damaged: expected a SHA-256 and a file name but received ${line}`,
      );
    return [name, hash];
  });
  return new Map(entries);
}

function readOrFail<T>(file: string, read: (file: string) => T): T {
  try {
    return read(file);
  } catch (cause) {
    throw new CheckpointError(`Expected a file ${file} but it cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Files are hashed in pieces, because Node reads at most 2 GiB at once. */
const PIECE_BYTES = 4 * 2 ** 20;

function sha256(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  const file = openSync(regularFile(path), 'r');
  try {
    for (let length = readSync(file, piece); length > 0; length = readSync(file, piece))
      hash.update(piece.subarray(0, length));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}
