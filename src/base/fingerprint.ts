/** @file Fingerprints of files and folders, to tell whether one has changed without reading gigabytes. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Files up to so many bytes are read whole. */
const WHOLE_BYTES = 2 ** 20;
/** Pieces that are read of larger ones, at even distances from the first byte to the last. */
const PIECES = 4;
/** Files of a folder that are looked at. */
const MAX_FILES = 200;

/** Fingerprints of files that have been read, by path, size and time of change: each image of a run asks for all. */
const known = new Map<string, string>();
const MAX_KNOWN = 1000;

/** Returns the fingerprint of a file, or of the weights and settings in a folder. @throws the system's error */
export function fingerprintOf(path: string): string {
  const status = statSync(path);
  const hash = createHash('sha256');
  if (status.isDirectory()) {
    for (const name of filesIn(path)) hash.update(`${name}\n${fingerprintOf(join(path, name))}\n`);
    return hash.digest('hex').slice(0, 32);
  }
  const key = `${path}\n${status.size}\n${status.mtimeMs}`;
  let fingerprint = known.get(key);
  if (fingerprint === undefined) {
    addFile(path, (bytes) => hash.update(bytes));
    fingerprint = hash.digest('hex').slice(0, 32);
    if (known.size === MAX_KNOWN) known.clear();
    known.set(key, fingerprint);
  }
  return fingerprint;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(safetensors|bin|ckpt|json|txt|model)$/.test(name))
    .sort()
    .slice(0, MAX_FILES);
}

function addFile(path: string, add: (bytes: Uint8Array) => void): void {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    add(Buffer.from(`${size}\n`));
    const length = size <= WHOLE_BYTES ? size : WHOLE_BYTES / PIECES;
    const count = size <= WHOLE_BYTES ? 1 : PIECES;
    for (let piece = 0; piece < count; piece++) {
      const bytes = new Uint8Array(length);
      const start = count === 1 ? 0 : Math.floor(((size - length) * piece) / (count - 1));
      readSync(file, bytes, 0, length, start);
      add(bytes);
    }
  } finally {
    closeSync(file);
  }
}
