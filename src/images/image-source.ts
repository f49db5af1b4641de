/** @file Sources of an image's bytes. */
import { closeSync, openSync, read } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { regularFile } from '../base/regular-file.js';

/** Where the bytes of an image are: a file, or a member of a tar or Parquet file. */
export interface ImageSource {
  /** Shown in messages: a path, or `shard.tar/000123.jpg`. */
  readonly name: string;
  /** The whole file's path, where the image is one: sharp reads it in its own thread, without a turn of ours. */
  readonly file?: string;
  read(): Promise<Uint8Array>;
}

/** Returns the source of an image that is a file. */
export function fileSource(file: string): ImageSource {
  return { name: file, file, read: async () => readFile(regularFile(file)) };
}

/** Returns the source of an image that is part of a file. */
export function sliceSource(name: string, file: string, offset: number, length: number): ImageSource {
  return { name, read: () => readSlice(file, offset, length) };
}

const readAsync = promisify(read);

/**
 * Reads bytes of a file. The file is opened each time, so that no number of shards keeps files open. Only the read
 * itself is asynchronous.
 * @throws where the file is missing or ends before
 */
export async function readSlice(file: string, offset: number, length: number): Promise<Uint8Array> {
  const descriptor = openSync(regularFile(file), 'r');
  try {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await readAsync(descriptor, bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error(`${file} ends before byte ${offset + length}`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}
