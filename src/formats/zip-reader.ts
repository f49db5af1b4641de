/**
 * @file Reads the directory of zip archives, and entries as torch writes them, uncompressed (PKWARE APPNOTE 6.3, sections
 * 4.3–4.5, with Zip64). unzip.ts unpacks compressed ones.
 * Each offset and size is checked against the file's size before it is used, so that a malformed file cannot cause large
 * allocations.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { CheckpointError } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';

const END = 0x06054b50;
const END64 = 0x06064b50;
const END64_LOCATOR = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
/** The value of a field whose real value is in the Zip64 extra field. */
const IN_ZIP64 = 0xffffffff;
/** Enough for about a million entries; an adapter has some hundred. */
const MAX_DIRECTORY = 64 << 20;
const CHUNK = 1 << 18;
const STORED = 0;
const DEFLATED = 8;

export interface ZipEntry {
  name: string;
  /** Bytes from the start of the file to the data. */
  offset: number;
  /** Bytes. */
  size: number;
  /** Bytes in the archive; differs from `size` only where the entry is deflated. */
  storedSize: number;
  isDeflated: boolean;
  crc: number;
  /** Type and permissions as in Unix's `st_mode`; 0 where the archive does not say them. */
  mode: number;
}

export class ZipReader {
  readonly path: string;
  readonly #kind: string;
  readonly #file: number;
  readonly #size: number;
  /** Reused for all checksums: allocating memory for each chunk makes verifying a checkpoint six times slower. */
  readonly #chunk = Buffer.allocUnsafe(CHUNK);

  /**
   * @param kind what the file is to be, for messages
   * @throws {CheckpointError} the file cannot be opened
   */
  constructor(path: string, kind = 'torch file') {
    this.path = path;
    this.#kind = kind;
    try {
      this.#file = openSync(regularFile(path), 'r');
    } catch (cause) {
      const reason = (cause as Error).message;
      throw new CheckpointError(`Expected a ${kind} at ${path} but it cannot be opened: ${reason}`, {
        cause,
      });
    }
    this.#size = fstatSync(this.#file).size;
  }

  close(): void {
    closeSync(this.#file);
  }

  /** Throws an error that says what is wrong with the file, and what to do. */
  fail(what: string): never {
    throw new CheckpointError(
      `${this.path} is not a usable ${this.#kind}: ${what}. Get or export the file again.`,
    );
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Reads the entries of the archive's directory, by name.
   * @param mayBeDeflated whether compressed entries are returned too
   * @throws {CheckpointError} where the directory or an entry reaches past the file or is compressed
   */
  entries(mayBeDeflated = false): Map<string, ZipEntry> {
    const { count, offset, size } = this.#findDirectory();
    if (size > MAX_DIRECTORY) this.fail(`its directory takes ${size} bytes, more than in any ${this.#kind}`);
    const directory = this.read(offset, size, 'its directory');
    const entries = new Map<string, ZipEntry>();
    let total = 0;
    for (let at = 0, i = 0; i < count; i++) {
      if (at + 46 > size || directory.readUInt32LE(at) !== CENTRAL)
        this.fail(`its directory ends after ${i} entries`);
      const nameLength = directory.readUInt16LE(at + 28);
      const extraLength = directory.readUInt16LE(at + 30);
      const next = at + 46 + nameLength + extraLength + directory.readUInt16LE(at + 32);
      if (next > size) this.fail(`its directory ends within entry ${i}`);
      const entry = this.#readEntry(directory.subarray(at, next), nameLength, extraLength, offset);
      if (entry.isDeflated && !mayBeDeflated)
        this.fail(`its entry ${entry.name} is compressed, which torch files never are`);
      if (entries.has(entry.name)) this.fail(`it holds ${entry.name} twice`);
      entries.set(entry.name, entry);
      total += entry.storedSize;
      // A small file could otherwise contain any amount of data, if all entries share the same bytes.
      if (total > this.#size) this.fail('its entries overlap');
      at = next;
    }
    return entries;
  }

  /** Reads a small entry and verifies its checksum. */
  readEntry({ name, offset, size, crc }: ZipEntry): Buffer {
    const bytes = this.read(offset, size, name);
    if (crc32(bytes) !== crc) this.#failChecksum(name);
    return bytes;
  }

  /** Verifies an entry's checksum without holding the entry in memory. */
  verify({ name, offset, size, crc }: ZipEntry): void {
    this.#assertInside(offset, size, name);
    let sum = 0;
    for (let done = 0; done < size; done += CHUNK) {
      const chunk = this.#chunk.subarray(0, Math.min(CHUNK, size - done));
      sum = crc32(this.#fill(chunk, offset + done), sum);
    }
    if (sum !== crc) this.#failChecksum(name);
  }

  #failChecksum(name: string): never {
    this.fail(`its entry ${name} does not match its checksum: it is damaged, or was saved without checksums`);
  }

  /** Reads bytes at an offset; `what` names them in the error for a truncated file. */
  read(offset: number, length: number, what: string): Buffer {
    this.#assertInside(offset, length, what);
    return this.#fill(Buffer.allocUnsafe(length), offset);
  }

  #assertInside(offset: number, length: number, what: string): void {
    if (offset + length > this.#size) {
      this.fail(
        `${what} should end at byte ${offset + length}, but the file has ${this.#size}; it is truncated`,
      );
    }
  }

  #fill(bytes: Buffer, offset: number): Buffer {
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(this.#file, bytes, done, bytes.length - done, offset + done);
      if (read === 0) this.fail(`it was truncated while it was read`);
      done += read;
    }
    return bytes;
  }

  #findDirectory(): { count: number; offset: number; size: number } {
    // The end record is at the end of the file, followed only by a comment of up to 64 KiB.
    const tail = this.read(
      Math.max(0, this.#size - 22 - 0xffff),
      Math.min(this.#size, 22 + 0xffff),
      'its end',
    );
    for (let at = tail.length - 22; at >= 0; at--) {
      if (tail.readUInt32LE(at) !== END || at + 22 + tail.readUInt16LE(at + 20) !== tail.length) continue;
      const directory = {
        count: tail.readUInt16LE(at + 10),
        size: tail.readUInt32LE(at + 12),
        offset: tail.readUInt32LE(at + 16),
      };
      const isZip64 = at >= 20 && tail.readUInt32LE(at - 20) === END64_LOCATOR;
      return isZip64 ? this.#readEnd64(this.#uint64(tail, at - 20 + 8)) : directory;
    }
    return this.fail('it has no zip directory at its end; it is truncated or not a zip file');
  }

  #readEnd64(offset: number): { count: number; offset: number; size: number } {
    const record = this.read(offset, 56, 'its Zip64 end record');
    if (record.readUInt32LE(0) !== END64) this.fail('its Zip64 end record is not where its locator says');
    return {
      count: this.#uint64(record, 32),
      size: this.#uint64(record, 40),
      offset: this.#uint64(record, 48),
    };
  }

  #readEntry(record: Buffer, nameLength: number, extraLength: number, directoryOffset: number): ZipEntry {
    const name = record.toString('utf8', 46, 46 + nameLength);
    const extra = record.subarray(46 + nameLength, 46 + nameLength + extraLength);
    const zip64 = this.#zip64Fields(extra);
    const field = (at: number) => {
      const value = record.readUInt32LE(at);
      return value === IN_ZIP64 ? (zip64.shift() ?? this.fail(`its entry ${name} has no Zip64 size`)) : value;
    };
    // In the order of the Zip64 field: size, compressed size, offset.
    const [size, storedSize, headerOffset] = [field(24), field(20), field(42)];
    if (record.readUInt16LE(8) & 1) this.fail(`its entry ${name} is encrypted`);
    const method = record.readUInt16LE(10);
    const isDeflated = method === DEFLATED;
    if (!isDeflated && (method !== STORED || size !== storedSize))
      this.fail(`its entry ${name} is compressed by method ${method}, which is not supported`);
    const header = this.read(headerOffset, 30, `the header of ${name}`);
    if (header.readUInt32LE(0) !== LOCAL) this.fail(`its entry ${name} is not where its directory says`);
    const offset = headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (offset + storedSize > directoryOffset) this.fail(`its entry ${name} reaches into the directory`);
    const crc = record.readUInt32LE(16);
    return { name, offset, size, storedSize, isDeflated, crc, mode: record.readUInt16LE(40) };
  }

  #zip64Fields(extra: Buffer): number[] {
    for (let at = 0; at + 4 <= extra.length; ) {
      const end = at + 4 + extra.readUInt16LE(at + 2);
      if (end > extra.length) break;
      if (extra.readUInt16LE(at) === 1) {
        return Array.from({ length: Math.floor((end - at - 4) / 8) }, (_, i) =>
          this.#uint64(extra, at + 4 + 8 * i),
        );
      }
      at = end;
    }
    return [];
  }

  #uint64(bytes: Buffer, at: number): number {
    const value = Number(bytes.readBigUInt64LE(at));
    return value <= this.#size
      ? value
      : this.fail(`it refers to byte ${value}, but the file has ${this.#size}`);
  }
}
