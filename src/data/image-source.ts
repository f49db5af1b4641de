/** @file Where the bytes of a picture are. */
import { readFile } from 'node:fs/promises';

/** Where the bytes of a picture are: a file, or a member of a tar or Parquet file. */
export interface ImageSource {
  /** Shown in messages, and unique in the dataset: a path, or `shard.tar/000123.jpg`. */
  readonly name: string;
  /** The whole file's path, where the picture is one: sharp reads it in its own thread, without a turn of ours. */
  readonly file?: string;
  read(): Promise<Uint8Array>;
}

/** A picture that is a file. */
export function fileSource(file: string): ImageSource {
  return { name: file, file, read: () => readFile(file) };
}
