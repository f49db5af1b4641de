/**
 * @file The keys of cached encodings. Everything that an encoding depends on is hashed into its key: encoder, precision and
 * preprocessing into the name of a folder, the content of the row into the key of the entry.
 */
import { createHash, randomUUID, webcrypto } from 'node:crypto';
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { forEachConcurrently } from '../../base/concurrently.js';
import type { Size } from '../../base/rgb-image.js';
import { type DatasetRow, lazyRows, promptMaskOf, type Rows } from '../../data/dataset.js';
import { referencesOf, type Sample } from '../../data/examples.js';
import { type Processes, sharedOut } from '../../distributed/processes.js';
import { type ImageSource, SourceFailure } from '../../images/image-source.js';
import type { Part } from '../../options/train-options.js';

/** Raise this when encoding, cropping or resizing changes in this package. */
const ENCODING_VERSION = 1;

/** 128 bits: no collection of images is large enough for two to collide. */
const digest = (content: string | Uint8Array): string =>
  createHash('sha256').update(content).digest('hex').slice(0, 32);

/**
 * Returns the name of the folder for the results of one encoder, such as 'latents-0123456789abcdef…'.
 * @param paths the folders or files of the encoder
 * @param settings other values that all results depend on
 */
export function folderName(part: Part, paths: readonly string[], settings: readonly unknown[]): string {
  return `${part}-${digest(JSON.stringify([ENCODING_VERSION, settings, ...paths.map(fingerprint)]))}`;
}

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;
const HEAD_BYTES = 2 ** 20;

/**
 * Returns values that identify a model: for each file in its folder (config, weights, preprocessing) the name, size,
 * modification time, and a hash of the first MiB (the names and shapes of the tensors) and of 64 samples of the rest.
 * Hashing gigabytes of weights at each start would cost what the cache saves. Any write changes the time, which is compared
 * in seconds because copies keep no more; and weights of equal size and time differ in every sample after training.
 */
function fingerprint(path: string): unknown {
  const files = statSync(path).isDirectory()
    ? readdirSync(path)
        .sort()
        .map((name) => join(path, name))
        .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile())
    : [path];
  return files.map((file) => {
    const { size, mtimeMs } = statSync(file);
    return [basename(file), size, Math.floor(mtimeMs / 1000), sampledHash(file, size)];
  });
}

function sampledHash(file: string, size: number): string {
  const hash = createHash('sha256');
  const descriptor = openSync(file, 'r');
  const update = (position: number, bytes: number): void => {
    const buffer = Buffer.alloc(bytes);
    hash.update(buffer.subarray(0, readSync(descriptor, buffer, 0, bytes, position)));
  };
  try {
    update(0, Math.min(size, HEAD_BYTES));
    for (let i = 1; i <= SAMPLES && size > HEAD_BYTES; i++)
      update(Math.floor((size - SAMPLE_BYTES) * (i / SAMPLES)), SAMPLE_BYTES);
  } finally {
    closeSync(descriptor);
  }
  return hash.digest('hex');
}

/** Images that are hashed at the same time, in libuv's threads. */
const HASHED_AT_ONCE = 8;

/** The hashes of a dataset's images, by row. */
export interface ImageKeys {
  images: string[];
  promptImages: string[];
}

/**
 * Returns the hash of each row's images. It reads all of them, at each start, each process some: at the speed of the disk, or at about half a
 * GB/s (measured on two cores) where they are in memory.
 * @param masksReferences whether references depend on their masks
 * @throws the signal's reason when it is aborted
 */
export async function imageKeys(
  rows: Rows,
  signal: AbortSignal | undefined,
  processes: Processes,
  masksReferences = false,
): Promise<ImageKeys> {
  const keys = await sharedOut(processes, rows.length, (count, indexOf) =>
    keysOf(
      lazyRows(count, (i) => rows.at(indexOf(i)) as DatasetRow),
      signal,
      masksReferences,
    ),
  );
  return { images: keys.map(([key]) => key), promptImages: keys.map(([, key]) => key) };
}

/** Returns the hashes of each row's training and prompt image. */
async function keysOf(
  rows: Rows,
  signal: AbortSignal | undefined,
  masksReferences: boolean,
): Promise<[string, string][]> {
  const keys: [string, string][] = [];
  /** Rows may share a file. The names of tar members are not used, since they may repeat, as in joined shards. */
  const byFile = new Map<string, Promise<string>>();
  const keyOf = (source: ImageSource): Promise<string> => {
    if (source.file === undefined) return imageKey(source);
    const key = byFile.get(source.file) ?? imageKey(source);
    byFile.set(source.file, key);
    return key;
  };
  const work = async (row: DatasetRow, index: number): Promise<void> => {
    const { image, promptImage } = row;
    const mask = masksReferences ? promptMaskOf(row) : undefined;
    const masked = mask === undefined ? '' : `-masked-${await keyOf(mask)}`;
    const key = await keyOf(image);
    keys[index] = [key, (promptImage === image ? key : await keyOf(promptImage)) + masked];
  };
  await forEachConcurrently(rows, HASHED_AT_ONCE, work, signal);
  return keys;
}

async function imageKey(source: ImageSource): Promise<string> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = (await source.read()) as Uint8Array<ArrayBuffer>;
  } catch (error) {
    if (error instanceof SourceFailure) throw error.cause;
    // A key that no cache has: the loader will try to read the image, and report the reason.
    return randomUUID();
  }
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', bytes))
    .toString('hex')
    .slice(0, 32);
}

/** The key of the image encodings where the image is dropped; no hash is like that. */
const NO_IMAGE = 'none';

/** The keys of a sample's encodings by each encoder: one, and for the images one of each reference. */
export type EntryKeys = Record<Part, (sample: Sample) => string[]>;

/** @param buckets the size of each row's training image, where rows differ in that */
export function entryKeys(
  { images, promptImages }: ImageKeys,
  buckets: readonly Size[] | undefined,
): EntryKeys {
  const sizeOf = (row: number): string => {
    const size = buckets?.[row];
    return size === undefined ? '' : `-${size.width}x${size.height}`;
  };
  const flipped = ({ flip }: Sample): string => (flip ? '-flipped' : '');
  const varied = (variant: number | undefined): string =>
    variant === undefined ? '' : `-varied-${variant.toString(16)}`;
  return {
    latents: (sample) => [images[sample.row] + sizeOf(sample.row) + flipped(sample)],
    image: (sample) =>
      referencesOf(sample).map(({ row, variant }) =>
        sample.drop.dropImage ? NO_IMAGE : promptImages[row] + varied(variant) + flipped(sample),
      ),
    text: ({ caption }) => [digest(caption)],
  };
}
