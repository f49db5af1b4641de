/**
 * @file The encoders of a training run: each is loaded and runs in every step, or is replaced by what it made of every
 * row once, and is then not in memory.
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Part, parts } from '../config.js';
import type { DataLoader } from '../data/data-loader.js';
import type { DatasetRow } from '../data/dataset.js';
import type { Drop } from '../data/sampling.js';
import type { Encode, FrozenEncoder, FrozenModels } from '../frozen-models.js';
import { type Device, type DType, tidy, trimMemory } from '../torch/index.js';
import { type EntryKeys, entryKeys, folderName, pictureKeys } from './keys.js';
import { EncodingStore } from './store.js';

export interface EncoderOptions {
  /** The encoders whose results are cached. */
  cached: readonly Part[];
  cacheDir: string;
  rows: readonly DatasetRow[];
  /** Side of the pictures that the VAE sees, in pixels. */
  resolution: number;
  /** Reads the rows that are not in the cache; it records those whose picture cannot be read. */
  loader: DataLoader;
  /** Where encoders run, and in which precision. */
  target: { dtype: DType; device: Device };
  onMessage?: ((message: string) => void) | undefined;
  /** Ends the filling of the cache; what is done is kept. */
  signal?: AbortSignal | undefined;
}

export type Encoders = Record<Part, Encode> & Disposable;

const nothing: Drop = { dropImage: false, dropText: false };
const everything: Drop = { dropImage: true, dropText: true };

/** Progress is told at most so often. */
const MESSAGE_INTERVAL_MS = 5000;

/**
 * Loads the encoders that run in every step, then fills the caches of the others, one after another.
 * @throws DatasetError as the loader; the signal's reason when it is aborted
 */
export async function openEncoders(
  models: Pick<FrozenModels, 'encoders' | 'tokenizer'>,
  options: EncoderOptions,
): Promise<Encoders> {
  const { cached, rows, signal, onMessage, target } = options;
  const encode: Partial<Record<Part, Encode>> = {};
  for (const part of parts) if (!cached.includes(part)) encode[part] = models.encoders[part].load().encode;
  const stores: EncodingStore[] = [];
  let pictures: string[] = [];
  if (cached.some((part) => part !== 'text')) {
    onMessage?.(`Cache: reading ${rows.length} pictures, to know them by their content`);
    pictures = await pictureKeys(rows, signal);
  }
  const keys = entryKeys(rows, pictures);
  for (const part of parts) {
    if (!cached.includes(part)) continue;
    const store = await fill(part, models, keys, options);
    stores.push(store);
    encode[part] = (examples) => {
      const wanted = examples.rows.map((row, i) => keys[part](row, examples.drops[i] as Drop));
      return tidy(() => store.get(wanted).to(target.device));
    };
  }
  return {
    ...(encode as Record<Part, Encode>),
    [Symbol.dispose]: () => {
      for (const store of stores) store[Symbol.dispose]();
    },
  };
}

/** Opens a part's cache, and has the encoder make what is missing in it. */
async function fill(
  part: Part,
  { encoders, tokenizer }: Pick<FrozenModels, 'encoders' | 'tokenizer'>,
  keys: EntryKeys,
  { cacheDir, resolution, loader, rows, target, onMessage, signal }: EncoderOptions,
): Promise<EncodingStore> {
  const source = encoders[part];
  const preprocessing = { latents: resolution, text: tokenizer.fingerprint(), image: null }[part];
  const folder = join(cacheDir, folderName(part, source.path, [target.dtype, preprocessing]));
  // Image features are the largest by far, and half precision has more digits than they need.
  const dtype = part === 'image' && target.dtype === 'float32' ? 'float16' : target.dtype;
  const store = new EncodingStore(folder, dtype, onMessage);
  let encoder: FrozenEncoder | undefined;
  let encoded = 0;
  let toldAt = performance.now();

  /** A row for each entry that is not there. */
  const missing = (drop: Drop): number[] => {
    const found = new Map<string, number>();
    for (const row of rows.keys()) {
      const key = keys[part](row, drop);
      if (!store.has(key) && !loader.badRows.has(row)) found.set(key, row);
    }
    return [...found.values()];
  };
  const encode = async (order: readonly number[], drop: Drop): Promise<void> => {
    for await (const examples of loader.read(order, drop, [source.input])) {
      // Here Ctrl-C is heard.
      await setImmediate();
      signal?.throwIfAborted();
      encoder ??= source.load();
      store.add(
        examples.rows.map((row) => keys[part](row, drop)),
        encoder.encode(examples),
      );
      encoded += examples.rows.length;
      if (performance.now() - toldAt < MESSAGE_INTERVAL_MS) continue;
      toldAt = performance.now();
      onMessage?.(`Cache of ${part}: ${encoded} encoded`);
    }
  };

  try {
    for (const drop of [nothing, everything]) {
      // Again where a picture could not be read: another row may have the same one, and is bad as well.
      for (let order = missing(drop); order.length > 0; order = missing(drop)) {
        onMessage?.(`Cache of ${part}: ${order.length} to encode, into ${folder}`);
        await encode(order, drop);
      }
    }
  } finally {
    store.flush();
    encoder?.dispose();
    trimMemory();
  }
  onMessage?.(`Cache of ${part}: complete, ${encoded} newly encoded`);
  return store;
}
