/**
 * @file Stores encodings on disk: a folder of safetensors shards, each with up to 256 rows of one shape in one tensor and
 * their keys in the metadata. A shard is complete or absent. Shards are mapped, so rows that are not read take no memory.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../../base/errors.js';
import { makeFolder } from '../../base/make-folder.js';
import { readSafetensors, writeSafetensors } from '../../formats/index.js';
import { type DType, mapTensors, stack, tensorsOf, tidy, zipTensors } from '../../torch/index.js';
import type { Encoding } from './frozen-encoders.js';

const ROWS_PER_SHARD = 256;
/** Pending rows that are this old are written, so that a kill loses at most so much work. */
const FLUSH_AFTER_MS = 300_000;
const EXTENSION = '.safetensors';
/** A partial file that is older was left by a process that was killed. */
const PARTIAL_MAX_AGE_MS = 3_600_000;

export class EncodingStore {
  readonly #folder: string;
  readonly #dtype: DType;
  readonly #onMessage: ((message: string) => void) | undefined;
  readonly #shards: Encoding[] = [];
  readonly #mapped = new Set<string>();
  readonly #places = new Map<string, { shard: Encoding; row: number }>();
  /** Rows that are not written yet, because their shard is not full. */
  readonly #pending = new Map<string, Encoding>();
  #flushedAt = performance.now();

  /**
   * Opens a folder, or makes it. A damaged shard is removed, since its rows can be computed again.
   * @param dtype the dtype of the values on disk
   */
  constructor(folder: string, dtype: DType, onMessage?: (message: string) => void) {
    this.#folder = folder;
    this.#dtype = dtype;
    this.#onMessage = onMessage;
    makeFolder(folder);
    this.refresh();
  }

  /** Maps the shards that were written since, by other processes. */
  refresh(): void {
    for (const name of readdirSync(this.#folder)) {
      const file = join(this.#folder, name);
      if (this.#mapped.has(file)) continue;
      if (!name.endsWith(EXTENSION)) {
        // The file may be gone: another run may have just finished it.
        const since = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
        if (name.endsWith('.partial') && Date.now() - since > PARTIAL_MAX_AGE_MS)
          rmSync(file, { force: true });
        continue;
      }
      try {
        this.#map(file);
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        this.#onMessage?.(`Removed ${file}, which is damaged: its rows are encoded again`);
        rmSync(file, { force: true });
      }
    }
  }

  has(key: string): boolean {
    return this.#places.has(key) || this.#pending.has(key);
  }

  /** Returns the rows of the keys, each of which must have been written, all of one shape: [b, …] on the CPU. */
  get(keys: readonly string[]): Encoding {
    return tidy(() => {
      const rows = keys.map((key) => {
        const place = this.#places.get(key);
        if (place === undefined) throw new Error(`no entry ${key} in ${this.#folder}`);
        return mapTensors(place.shard, (tensor) => tensor.select(0, place.row));
      });
      return zipTensors(rows as [Encoding, ...Encoding[]], (tensors) => stack(tensors));
    });
  }

  /** Takes over a batch of rows [b, …]. Writes shards when enough rows are pending or enough time has passed. */
  add(keys: readonly string[], rows: Encoding): void {
    const kept = tidy(() => {
      const values = mapTensors(rows, (tensor) => tensor.to({ device: 'cpu', dtype: this.#dtype }));
      return keys.map((_, i) => mapTensors(values, (tensor) => tensor.select(0, i)));
    });
    dispose(rows);
    keys.forEach((key, i) => {
      this.#pending.set(key, kept[i] as Encoding);
    });
    const isOld = performance.now() - this.#flushedAt > FLUSH_AFTER_MS;
    if (isOld || this.#pending.size >= ROWS_PER_SHARD) this.flush();
  }

  /** Writes the pending rows. */
  flush(): void {
    this.#flushedAt = performance.now();
    if (this.#pending.size === 0) return;
    const byShape = new Map<string, string[]>();
    for (const [key, row] of this.#pending) {
      const shape = JSON.stringify(tensorsOf(row).map((tensor) => tensor.shape));
      const keys = byShape.get(shape);
      if (keys === undefined) byShape.set(shape, [key]);
      else keys.push(key);
    }
    for (const keys of byShape.values()) this.#write(keys);
  }

  /** Writes a shard of pending rows, which must have one shape. */
  #write(keys: readonly string[]): void {
    // A random name: several runs may write to the same cache.
    const file = join(this.#folder, randomUUID() + EXTENSION);
    const rows = keys.map((key) => this.#pending.get(key)) as [Encoding, ...Encoding[]];
    tidy(() => {
      const shard = zipTensors(rows, (tensors) => stack(tensors));
      writeSafetensors(file, new Map(Object.entries(shard)), { keys: keys.join(' ') });
    });
    for (const row of rows) dispose(row);
    for (const key of keys) this.#pending.delete(key);
    this.#map(file);
  }

  #map(file: string): void {
    const { tensors, metadata } = readSafetensors(file);
    const shard = Object.fromEntries(tensors) as unknown as Encoding;
    const keys = metadata.keys?.split(' ');
    if (![...tensors.values()].every(({ shape }) => shape[0] === keys?.length) || !tensors.has('rows'))
      throw new CheckpointError(`Expected a shard of encodings in ${file}`);
    this.#shards.push(shard);
    this.#mapped.add(file);
    keys?.forEach((key, row) => {
      this.#places.set(key, { shard, row });
    });
  }

  [Symbol.dispose](): void {
    for (const rows of [...this.#shards, ...this.#pending.values()]) dispose(rows);
  }
}

function dispose(rows: Encoding): void {
  for (const tensor of tensorsOf(rows)) tensor.dispose();
}
