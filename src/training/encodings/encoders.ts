/**
 * @file The encoders of a training run. Each one either runs in every step, or is replaced by a cache of its results for
 * every row and is not kept in memory.
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Deferred } from '../../base/deferred.js';
import type { Size } from '../../base/rgb-image.js';
import { Throttle } from '../../base/throttle.js';
import type { DataLoader } from '../../data/data-loader.js';
import type { DatasetRow, Rows } from '../../data/dataset.js';
import type { Examples, Sample } from '../../data/examples.js';
import { masks, type ReferenceOptions, variantsOf } from '../../data/reference-options.js';
import type { Drop } from '../../data/sampling.js';
import type { PromptTokenizer } from '../../diffusion/model.js';
import { alone, type Processes } from '../../distributed/processes.js';
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
  /** Side of the images that the VAE sees, in pixels; not used where there are buckets. */
  resolution: number;
  /** The size of each row's training image, where rows differ in size. */
  buckets?: readonly Size[] | undefined;
  /** Whether large JPEGs are decoded at a reduced size, as the loader does. Default: false. */
  reducedDecode?: boolean;
  /** Whether the cache needs mirrored images, too. */
  randomFlip?: boolean;
  /** What the loader does to references. Default: nothing. */
  references?: ReferenceOptions | undefined;
  /** Reads the rows that are not in the cache; it records those whose image cannot be read. */
  loader: DataLoader;
  /** Device and dtype of the encoders. */
  placement: { dtype: DType; device: Device };
  onMessage?: ((message: string) => void) | undefined;
  /** Each of them encodes some of the entries. Default: this process encodes all. */
  processes?: Processes;
  /** Stops the filling of the cache; finished encodings are kept. */
  signal?: AbortSignal | undefined;
}

/** The encoders and the tokenizer, on which encodings depend, and the path of the backbone. */
export interface CachedModels {
  /** The folder or file of the backbone. */
  backbonePath: string;
  encoders: EncoderSources;
  tokenizer: PromptTokenizer;
}

export type Encoders = Record<Part, Encode> & Disposable;

/**
 * Loads the encoders that run in every step, then fills the caches of the others, one after another.
 * @throws DatasetError as the loader does; the signal's reason when it is aborted
 */
export async function openEncoders(models: CachedModels, options: EncoderOptions): Promise<Encoders> {
  const { cached, rows, buckets, signal, onMessage, placement, processes = alone } = options;
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
      images = await imageKeys(rows, signal, processes, masks(options.references));
    }
    const keys = entryKeys(images, buckets);
    for (const part of parts) {
      if (!cached.includes(part)) continue;
      const store = await fill(part, models, keys, options);
      owned.add(() => store[Symbol.dispose]());
      encode[part] = (examples) => {
        const wanted = samplesOf(examples).flatMap(keys[part]);
        return tidy(() => mapTensors(store.get(wanted), (tensor) => tensor.upload(placement.device)));
      };
    }
  } catch (error) {
    owned[Symbol.dispose]();
    throw error;
  }
  return { ...(encode as Record<Part, Encode>), [Symbol.dispose]: () => owned[Symbol.dispose]() };
}

function samplesOf({ rows, references, drops, captions, flips }: Examples): Sample[] {
  return rows.map((row, i) => ({
    row,
    references: references[i],
    drop: drops[i] as Drop,
    caption: captions[i] as string,
    flip: flips[i] as boolean,
  }));
}

/** Opens the cache of a part and encodes what is missing in it, each process some. */
async function fill(
  part: Part,
  models: CachedModels,
  keys: EntryKeys,
  options: EncoderOptions,
): Promise<EncodingStore> {
  const { loader, placement, onMessage, signal, processes = alone } = options;
  const source = models.encoders[part];
  const folder = cacheFolder(part, models, options);
  const store = new EncodingStore(folder, storedDtype(part, placement.dtype), onMessage);
  let encoder: FrozenEncoder | undefined;
  let encoded = 0;
  let encodedForDrops = 0;
  const throttle = new Throttle();

  /** Returns one sample for each missing entry. @param isOwn whether this process encodes the entry of a row */
  const missing = (drop: Drop, isOwn: (row: number) => boolean): Sample[] => {
    const samples = new Map<string, Sample>();
    for (const sample of samplesFor(part, options, drop)) {
      // Of the one reference that each of these samples has.
      const [key = ''] = keys[part](sample);
      if (!loader.badRows.has(sample.row) && !samples.has(key)) samples.set(key, sample);
    }
    return [...samples].flatMap(([key, sample]) => (!store.has(key) && isOwn(sample.row) ? [sample] : []));
  };
  const encode = async (samples: readonly Sample[]): Promise<void> => {
    for await (const examples of loader.read(samples, [source.input])) {
      // Yield, so that signals are handled.
      await setImmediate();
      signal?.throwIfAborted();
      encoder ??= source.load();
      store.add(samplesOf(examples).flatMap(keys[part]), encoder.encode(examples));
      encoded += examples.rows.length;
      if (throttle.isDue()) onMessage?.(`Cache of ${part}: ${encoded} encoded`);
    }
  };
  const encodeMissing = async (isOwn: (row: number) => boolean): Promise<void> => {
    for (const drop of cachedDrops) {
      // Repeat if an image could not be read: other rows may have the same image and are bad, too.
      for (let samples = missing(drop, isOwn); samples.length > 0; samples = missing(drop, isOwn)) {
        const why = drop.dropImage ? `, for dropped ${part === 'text' ? 'captions' : 'images'}` : '';
        onMessage?.(`Cache of ${part}: ${samples.length} to encode${why}, into ${folder}`);
        if (drop.dropImage) encodedForDrops += samples.length;
        await encode(samples);
      }
    }
    store.flush();
  };

  try {
    const { rank, worldSize, localRank, localWorldSize } = processes;
    // What is still missing when all are done is on other hosts, whose folder this one does not see: each host fills its own.
    const owners = [
      (row: number) => row % worldSize === rank,
      (row: number) => row % localWorldSize === localRank,
      () => true,
    ];
    for (const isOwn of owners) {
      await processes.together(() => encodeMissing(isOwn));
      if (worldSize === 1) break;
      for (const found of await processes.gatherJson([...loader.badRows])) loader.addBadRows(found);
      store.refresh();
      const left = cachedDrops.some((drop) => missing(drop, () => true).length > 0);
      if ((await processes.agree([Number(left)]))[0] === 0) break;
      if (isOwn === owners[0] && localWorldSize < worldSize)
        onMessage?.(
          `Cache of ${part}: not all hosts see ${folder} of the others, so each of them fills a cache of its own. With --cache-dir on storage that all hosts see, they would share it`,
        );
    }
  } catch (error) {
    // Keep the finished encodings. If that fails as well, throw the first error.
    try {
      store.flush();
    } catch (second) {
      onMessage?.(`Cache of ${part}: the last encodings could not be written: ${(second as Error).message}`);
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

/** Yields the files and folders that a run keeps mapped: its caches, and on a CPU the weights of the models. */
export function* mappedPaths(models: CachedModels, options: EncoderOptions): Generator<string> {
  const isMapped = options.placement.device === 'cpu';
  if (isMapped) yield models.backbonePath;
  for (const part of parts)
    if (options.cached.includes(part)) yield cacheFolder(part, models, options);
    else if (isMapped) yield* models.encoders[part].paths;
}

/** Returns the folder of a part's encodings. Its name depends on the encoder, its dtype and the preprocessing. */
export function cacheFolder(
  part: Part,
  { encoders, tokenizer }: CachedModels,
  {
    cacheDir,
    resolution,
    buckets,
    placement,
    reducedDecode = false,
    references,
  }: Pick<
    EncoderOptions,
    'cacheDir' | 'resolution' | 'buckets' | 'placement' | 'reducedDecode' | 'references'
  >,
): string {
  // With buckets, the key of an entry contains the size.
  const size = buckets === undefined ? resolution : 'buckets';
  const preprocessing = {
    latents: size,
    text: tokenizer.fingerprint(),
    image: null,
  }[part];
  const { output } = encoders[part];
  const settings = [
    placement.dtype,
    output === undefined ? preprocessing : [preprocessing, output],
    ...(reducedDecode && part !== 'text' ? ['reduced'] : []),
    // How many variations there are does not change them.
    ...(references && part === 'image' ? [{ ...references, variants: undefined }] : []),
  ];
  return join(cacheDir, folderName(part, encoders[part].paths, settings));
}

/** Returns the dtype of a part's encodings on disk. */
export function storedDtype(part: Part, dtype: DType): DType {
  // Image features are by far the largest, and half precision is enough for them.
  return part === 'image' && dtype === 'float32' ? 'float16' : dtype;
}

/** A cache holds every row without drops, and every row with image and text dropped. */
export const cachedDrops: readonly Drop[] = [
  { dropImage: false, dropText: false },
  { dropImage: true, dropText: true },
];

/**
 * Yields every sample that a part encodes of the rows with this drop: for text each caption, for images also the mirrored
 * one, and each of its variations. With groups, too, every reference is the image of some row. Several samples may share an
 * entry of the cache.
 */
export function* samplesFor(
  part: Part,
  {
    rows,
    randomFlip = false,
    references: options,
  }: Pick<EncoderOptions, 'rows' | 'randomFlip' | 'references'>,
  drop: Drop,
): Generator<Sample> {
  const flips = part !== 'text' && randomFlip ? [false, true] : [false];
  for (let row = 0; row < rows.length; row++) {
    const captions = part === 'text' && !drop.dropText ? (rows.at(row) as DatasetRow).captions : [''];
    const variants = part === 'image' && !drop.dropImage ? variantsOf(options, row) : [undefined];
    for (const caption of captions)
      for (const flip of flips)
        for (const variant of variants) yield { row, references: [{ row, variant }], drop, caption, flip };
  }
}
