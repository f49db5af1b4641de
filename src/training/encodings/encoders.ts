/**
 * @file The encoders of a training run: each is loaded and runs in every step, or is replaced by what it made of every
 * row once, and is then not in memory.
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Deferred } from '../../base/deferred.js';
import { Throttle } from '../../base/throttle.js';
import type { DataLoader, Examples, Sample } from '../../data/data-loader.js';
import type { DatasetRow, Rows } from '../../data/dataset.js';
import type { Drop } from '../../data/sampling.js';

import type { Size } from '../../images/image.js';
import type { PromptTokenizer } from '../../models/clip/clip-tokenizer.js';
import { type Part, parts } from '../../options/train-options.js';
import { type Device, type DType, mapTensors, tidy, trimMemory } from '../../torch/index.js';
import type { Encode, EncoderSources, FrozenEncoder } from './frozen-encoders.js';
import { type EntryKeys, entryKeys, folderName, type ImageKeys, imageKeys } from './keys.js';
import { EncodingStore } from './store.js';

export interface EncoderOptions {
  /** The encoders whose results are cached. */
  cached: readonly Part[];
  cacheDir: string;
  rows: Rows;
  /** Side of the pictures that the VAE sees, in pixels; not used where there are buckets. */
  resolution: number;
  /** The size of each row's training picture, where rows differ in that. */
  buckets?: readonly Size[] | undefined;
  /** Whether pictures are wanted mirrored, too. */
  randomFlip?: boolean;
  /** Reads the rows that are not in the cache; it records those whose picture cannot be read. */
  loader: DataLoader;
  /** Where encoders run, and in which precision. */
  target: { dtype: DType; device: Device };
  onMessage?: ((message: string) => void) | undefined;
  /** Ends the filling of the cache; what is done is kept. */
  signal?: AbortSignal | undefined;
}

/** The encoders, and the tokenizer whose settings text encodings depend on. */
export interface CachedModels {
  encoders: EncoderSources;
  tokenizer: PromptTokenizer;
}

export type Encoders = Record<Part, Encode> & Disposable;

/**
 * Loads the encoders that run in every step, then fills the caches of the others, one after another.
 * @throws DatasetError as the loader; the signal's reason when it is aborted
 */
export async function openEncoders(models: CachedModels, options: EncoderOptions): Promise<Encoders> {
  const { cached, rows, buckets, signal, onMessage, target } = options;
  const encode: Partial<Record<Part, Encode>> = {};
  const owned = new Deferred();
  try {
    for (const part of parts) {
      if (cached.includes(part)) continue;
      const encoder = models.encoders[part].load();
      owned.add(() => encoder[Symbol.dispose]());
      encode[part] = encoder.encode;
    }
    let images: ImageKeys = { images: [], promptImages: [] };
    if (cached.some((part) => part !== 'text')) {
      onMessage?.(`Cache: reading ${rows.length} images, to recognize them by their content`);
      images = await imageKeys(rows, signal);
    }
    const keys = entryKeys(images, buckets);
    for (const part of parts) {
      if (!cached.includes(part)) continue;
      const store = await fill(part, models, keys, options);
      owned.add(() => store[Symbol.dispose]());
      encode[part] = (examples) => {
        const wanted = samplesOf(examples).map(keys[part]);
        return tidy(() => mapTensors(store.get(wanted), (tensor) => tensor.upload(target.device)));
      };
    }
  } catch (error) {
    owned[Symbol.dispose]();
    throw error;
  }
  return { ...(encode as Record<Part, Encode>), [Symbol.dispose]: () => owned[Symbol.dispose]() };
}

function samplesOf({ rows, drops, captions, flips }: Examples): Sample[] {
  return rows.map((row, i) => ({
    row,
    drop: drops[i] as Drop,
    caption: captions[i] as string,
    flip: flips[i] as boolean,
  }));
}

/** Opens a part's cache, and has the encoder make what is missing in it. */
async function fill(
  part: Part,
  { encoders, tokenizer }: CachedModels,
  keys: EntryKeys,
  options: EncoderOptions,
): Promise<EncodingStore> {
  const { randomFlip = false, loader, rows, target, onMessage, signal } = options;
  const source = encoders[part];
  const folder = cacheFolder(part, { encoders, tokenizer }, options);
  const store = new EncodingStore(folder, storedDtype(part, target.dtype), onMessage);
  let encoder: FrozenEncoder | undefined;
  let encoded = 0;
  let encodedForDrops = 0;
  const throttle = new Throttle();

  /** A sample for each entry that is not there. */
  const missing = (drop: Drop): Sample[] => {
    const samples = new Map<string, Sample>();
    for (const sample of samplesFor(part, rows, drop, randomFlip)) {
      const key = keys[part](sample);
      if (!loader.badRows.has(sample.row) && !store.has(key)) samples.set(key, sample);
    }
    return [...samples.values()];
  };
  const encode = async (samples: readonly Sample[]): Promise<void> => {
    for await (const examples of loader.read(samples, [source.input])) {
      // Yield, so that signals are handled.
      await setImmediate();
      signal?.throwIfAborted();
      encoder ??= source.load();
      store.add(samplesOf(examples).map(keys[part]), encoder.encode(examples));
      encoded += examples.rows.length;
      if (throttle.isDue()) onMessage?.(`Cache of ${part}: ${encoded} encoded`);
    }
  };

  try {
    for (const drop of cachedDrops) {
      // Again where a picture could not be read: another row may have the same one, and is bad as well.
      for (let samples = missing(drop); samples.length > 0; samples = missing(drop)) {
        const why = drop.dropImage ? `, for dropped ${part === 'text' ? 'captions' : 'images'}` : '';
        onMessage?.(`Cache of ${part}: ${samples.length} to encode${why}, into ${folder}`);
        if (drop.dropImage) encodedForDrops += samples.length;
        await encode(samples);
      }
    }
    store.flush();
  } catch (error) {
    // What is encoded is kept. Where that fails too, the first error is the one to throw.
    try {
      store.flush();
    } catch (second) {
      onMessage?.(
        `Cache of ${part}: what was encoded last could not be written: ${(second as Error).message}`,
      );
    }
    store[Symbol.dispose]();
    throw error;
  } finally {
    encoder?.[Symbol.dispose]();
    trimMemory();
  }
  const more = encodedForDrops === 0 ? '' : ` and ${encodedForDrops} for what is dropped`;
  onMessage?.(`Cache of ${part}: complete, ${encoded - encodedForDrops} newly encoded${more}`);
  return store;
}

/** The folder of a part's encodings, of its encoder as it is. */
export function cacheFolder(
  part: Part,
  { encoders, tokenizer }: CachedModels,
  {
    cacheDir,
    resolution,
    buckets,
    target,
  }: Pick<EncoderOptions, 'cacheDir' | 'resolution' | 'buckets' | 'target'>,
): string {
  // Latents of a bucket have their size in the entry's key.
  const size = buckets === undefined ? resolution : 'buckets';
  const preprocessing = {
    latents: size,
    text: tokenizer.fingerprint(),
    image: encoders.image.output ?? null,
  }[part];
  return join(cacheDir, folderName(part, encoders[part].paths, [target.dtype, preprocessing]));
}

/** The dtype of a part's encodings on disk. */
export function storedDtype(part: Part, dtype: DType): DType {
  // Image features are the largest by far, and half precision has more digits than they need.
  return part === 'image' && dtype === 'float32' ? 'float16' : dtype;
}

/** What a cache holds: every row as it is, and every row with everything dropped. */
export const cachedDrops: readonly Drop[] = [
  { dropImage: false, dropText: false },
  { dropImage: true, dropText: true },
];

/**
 * Every form in which a part meets the rows with this drop: of a text each caption, of a picture also the mirrored one.
 * Many may share an entry of the cache.
 */
export function* samplesFor(part: Part, rows: Rows, drop: Drop, randomFlip: boolean): Generator<Sample> {
  const flips = part !== 'text' && randomFlip ? [false, true] : [false];
  for (let row = 0; row < rows.length; row++) {
    const captions = part === 'text' && !drop.dropText ? (rows.at(row) as DatasetRow).captions : [''];
    for (const caption of captions) for (const flip of flips) yield { row, drop, caption, flip };
  }
}
