/** @file Sources of the bytes of images. */
import { closeSync, openSync, read } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { regularFile } from '../base/regular-file.js';

/** The source of an image's bytes: a file, or a member of a tar or Parquet file. */
export interface ImageSource {
  /** The name for messages: a path, or `shard.tar/000123.jpg`. */
  readonly name: string;
  /** The path, if the image is a whole file. sharp then reads it in its own thread, without a turn of the event loop. */
  readonly file?: string;
  read(): Promise<Uint8Array>;
}

/** A source cannot be reached, whatever is in the image: the cause ends a run, and is no fault of a row. */
export class SourceFailure extends Error {
  constructor(override readonly cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
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
 * Reads bytes of a file. It opens the file each time, so that many shards do not need many open files. Only the read itself
 * is asynchronous.
 * @throws Error where the file is missing or too short
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
