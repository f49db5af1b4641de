/**
 * @file Lists the members of a tar file, with their offsets and sizes, from its headers alone. Streaming readers read every
 * byte; training needs members in any order, and an index of gigabytes within milliseconds.
 *
 * The format: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Header Block"), and the GNU tar manual ("Basic Tar
 * Format") for long names and base-256 sizes.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { DatasetError } from '../base/errors.js';
import { NotAFileError, regularFile } from '../base/regular-file.js';

const BLOCK = 512;
/** The bytes of one read: enough for a header, a caption and the next header. */
const WINDOW = 16 * 1024;

export interface TarMember {
  readonly name: string;
  /** The offset of its bytes in the file. */
  readonly offset: number;
  readonly size: number;
  /** Returns its bytes, which are valid until the next member is visited. */
  read(): Uint8Array;
}

/**
 * Visits the members that are regular files and complete, in their order. Blocks of zeros, which end a tar, are skipped, so
 * that concatenated tars (`cat *.tar`) can be read.
 * @returns null for a complete tar; for a truncated one the name of the truncated member, or '' if only the end mark is
 * missing
 * @throws DatasetError where the checksum of a header is wrong, with the place
 */
export function visitTar(file: string, visit: (member: TarMember) => void): string | null {
  const descriptor = open(file);
  try {
    return visitMembers(new Window(descriptor), file, visit);
  } finally {
    closeSync(descriptor);
  }
}

function open(file: string): number {
  try {
    return openSync(regularFile(file), 'r');
  } catch (cause) {
    const hint = cause instanceof NotAFileError ? '; a tar from a pipe is read with --dataset -' : '';
    throw new DatasetError(`Expected a tar file at ${file} but ${(cause as Error).message}${hint}.`, {
      cause,
    });
  }
}

function visitMembers(bytes: Window, file: string, visit: (member: TarMember) => void): string | null {
  /** Name and size of the next member, if they are too long for its own header. */
  let long: { path?: string; size?: number } = {};
  let hasEnd = false;
  let at = 0;
  while (at + BLOCK <= bytes.size) {
    const header = bytes.read(at, BLOCK);
    hasEnd = header.every((byte) => byte === 0);
    if (hasEnd) {
      at += BLOCK;
      continue;
    }
    checkSum(header, file, at);
    const type = String.fromCharCode(header[156] as number);
    const isForNext = 'xgLK'.includes(type);
    const path = long.path ?? pathField(header);
    const size = (isForNext ? undefined : long.size) ?? numberField(header, 124, 12);
    if (!Number.isSafeInteger(size) || size < 0)
      throw new DatasetError(
        `Expected the size of a tar's member in ${file} at byte ${at} but received ${size}: the file is damaged. Make or download it again.`,
      );
    const offset = at + BLOCK;
    if (offset + size > bytes.size) return isForNext ? '' : path;
    at = offset + Math.ceil(size / BLOCK) * BLOCK;
    if (type === 'x') long = { ...long, ...paxRecords(bytes.read(offset, size)) };
    else if (type === 'L') long = { ...long, path: text(bytes.read(offset, size)) };
    // The other types are long names of links and global settings such as comments. They are not used.
    else if (!isForNext) {
      long = {};
      if (type === '0' || type === '\0')
        visit({ name: path, offset, size, read: () => bytes.read(offset, size) });
    }
  }
  return hasEnd && at === bytes.size ? null : '';
}

/** Checks a header's checksum: the sum of its bytes, with spaces in place of the checksum. */
function checkSum(header: Uint8Array, file: string, at: number): void {
  const stored = numberField(header, 148, 8);
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] as number;
  if (sum !== stored)
    throw new DatasetError(
      `Expected the header of a tar's member in ${file} at byte ${at} but its checksum is ${sum}, not ${stored}: the file is damaged or not a tar. Make or download it again.`,
    );
}

/** Returns a number in octal digits, or in base 256 if the highest bit of the first byte is set. */
function numberField(header: Uint8Array, start: number, length: number): number {
  const field = header.subarray(start, start + length);
  if ((field[0] as number) < 0x80) return Number.parseInt(text(field).trim() || '0', 8);
  return field.subarray(1).reduce((value, byte) => value * 256 + byte, (field[0] as number) & 0x7f);
}

/** Returns the name, with ustar's prefix. GNU tar has other fields in the place of the prefix. */
function pathField(header: Uint8Array): string {
  const name = text(header.subarray(0, 100));
  const isUstar = text(header.subarray(257, 263)) === 'ustar';
  const prefix = isUstar ? text(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Returns path and size from pax records such as '25 path=very/long/name\n', which begin with their length. */
function paxRecords(bytes: Uint8Array): { path?: string; size?: number } {
  const records: { path?: string; size?: number } = {};
  for (let at = 0; at < bytes.length; ) {
    const length = Number.parseInt(text(bytes.subarray(at, at + 20)), 10);
    // Not a record: the rest is padding.
    if (!(length > 0)) break;
    const record = text(bytes.subarray(at, at + length - 1));
    const [, key, value] = /^\d+ ([^=]+)=(.*)$/s.exec(record) ?? [];
    if (key === 'path' && value !== undefined) records.path = value;
    if (key === 'size') records.size = Number(value);
    at += length;
  }
  return records;
}

/** Returns the text up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

/** Reads a file and keeps the bytes around the last read in memory. */
class Window {
  readonly size: number;
  readonly #descriptor: number;
  #bytes = new Uint8Array(0);
  #start = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
    this.size = fstatSync(descriptor).size;
  }

  /** Returns bytes of the file, which are valid until the next read. The range must be inside the file. */
  read(offset: number, length: number): Uint8Array {
    const isInWindow = offset >= this.#start && offset + length <= this.#start + this.#bytes.length;
    if (!isInWindow) {
      const wanted = new Uint8Array(Math.min(Math.max(length, WINDOW), this.size - offset));
      this.#bytes = wanted.subarray(0, readSync(this.#descriptor, wanted, 0, wanted.length, offset));
      this.#start = offset;
    }
    return this.#bytes.subarray(offset - this.#start, offset - this.#start + length);
  }
}
