/**
 * @file Unpacks zip archives that come from the network, such as Python's wheels (PKWARE APPNOTE 6.3). The archive is not
 * trusted: every name is checked before the first file is written, links are refused, and no more is written than the
 * directory says.
 */
import { createReadStream, createWriteStream, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw, inflateRawSync } from 'node:zlib';
import { shown } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { type ZipEntry, ZipReader } from './zip-reader.js';

export interface UnzipOptions {
  /** Whether an entry is written; it is called with names such as 'torch/lib/libc10.so'. */
  isWanted(name: string): boolean;
  /** The most bytes that all wanted entries may have together. */
  maxBytes: number;
  /** Called with the bytes of all wanted entries before anything is written. It may throw. */
  onSize?(bytes: number): void;
  signal?: AbortSignal | undefined;
}

/** Files up to so many bytes are unpacked at once, which is ten times as fast as in a stream. */
const SMALL_BYTES = 2 ** 20;
/** A byte of deflate can stand for at most so many (RFC 1951: a match of 258 bytes takes 2 bits). */
const MAX_RATIO = 1032;
const TYPE = 0o170000;
const LINK = 0o120000;

/**
 * Unpacks the wanted entries into a folder, which must not have files of these names.
 * @returns how many files were written
 * @throws CheckpointError where an entry, wanted or not, would be written outside of the folder, is a link, has more bytes
 *   than it can have, or is damaged; the system's error where a file cannot be written; the signal's reason
 */
export async function unzip(archive: string, folder: string, options: UnzipOptions): Promise<number> {
  const { isWanted, maxBytes, onSize, signal } = options;
  const reader = new ZipReader(archive, 'zip archive');
  try {
    const entries = [...reader.entries(true).values()];
    for (const entry of entries) assertSafe(entry, reader);
    const wanted = entries.filter(({ name }) => !name.endsWith('/') && isWanted(name));
    const bytes = wanted.reduce((sum, { size }) => sum + size, 0);
    if (bytes > maxBytes)
      reader.fail(`it unpacks to ${bytes} bytes, more than the ${maxBytes} that are allowed`);
    onSize?.(bytes);
    for (const entry of wanted) {
      signal?.throwIfAborted();
      const file = join(folder, entry.name);
      makeFolder(dirname(file));
      if (entry.size <= SMALL_BYTES) writeFileSync(file, smallEntry(entry, reader), { flag: 'wx' });
      else await writeLargeEntry(entry, reader, file, signal);
    }
    return wanted.length;
  } finally {
    reader.close();
  }
}

function assertSafe({ name, size, storedSize, mode }: ZipEntry, reader: ZipReader): void {
  const parts = name.replace(/\/$/, '').split('/');
  const isOutside = parts.some((part) => part === '' || part === '.' || part === '..');
  if (isOutside || /[\\\0]|^[a-z]:/i.test(name))
    reader.fail(`its entry ${shown(name)} would be written outside of its folder`);
  if ((mode & TYPE) === LINK) reader.fail(`its entry ${shown(name)} is a link, which is not unpacked`);
  if (size > MAX_RATIO * storedSize)
    reader.fail(`its entry ${shown(name)} cannot have ${size} bytes in ${storedSize}`);
}

function smallEntry(
  { name, offset, size, storedSize, isDeflated, crc }: ZipEntry,
  reader: ZipReader,
): Buffer {
  const stored = reader.read(offset, storedSize, name);
  const bytes = isDeflated ? inflated(stored, size) : stored;
  if (bytes?.length !== size || crc32(bytes) !== crc) return failDamaged(name, reader);
  return bytes;
}

/** Returns null where the bytes are not deflated, or have more than `size`. */
function inflated(stored: Buffer, size: number): Buffer | null {
  try {
    return inflateRawSync(stored, { maxOutputLength: Math.max(1, size) });
  } catch {
    return null;
  }
}

async function writeLargeEntry(
  { name, offset, size, storedSize, isDeflated, crc }: ZipEntry,
  reader: ZipReader,
  file: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  let [bytes, sum] = [0, 0];
  const check = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > size) failDamaged(name, reader);
      sum = crc32(chunk, sum);
      yield chunk;
    }
  };
  const source = createReadStream(reader.path, {
    start: offset,
    end: offset + storedSize - 1,
    highWaterMark: SMALL_BYTES,
  });
  // On the disk before its folder gets its name, so that no half file is behind that after a power cut.
  const target = createWriteStream(file, { flags: 'wx', flush: true });
  const options = signal === undefined ? {} : { signal };
  try {
    if (isDeflated)
      await pipeline(source, createInflateRaw({ chunkSize: SMALL_BYTES }), check, target, options);
    else await pipeline(source, check, target, options);
  } catch (error) {
    signal?.throwIfAborted();
    if (/^Z_/.test((error as NodeJS.ErrnoException).code ?? '')) failDamaged(name, reader);
    throw error;
  }
  if (bytes !== size || sum !== crc) failDamaged(name, reader);
}

function failDamaged(name: string, reader: ZipReader): never {
  return reader.fail(`its entry ${shown(name)} does not match its size and checksum`);
}
