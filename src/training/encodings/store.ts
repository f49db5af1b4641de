/**
 * @file Encodings on disk: a folder of safetensors shards, each with up to some hundred rows of one shape in one tensor
 * and their keys in the metadata. A shard is complete or absent. Shards are mapped, so what is not read takes no memory.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../../base/errors.js';
import { makeFolder } from '../../base/make-folder.js';
import { readSafetensors, writeSafetensors } from '../../formats/index.js';
import { type DType, stack, type Tensor, tidy } from '../../torch/index.js';

const ROWS_PER_SHARD = 256;
/** Rows that have waited this long are written, however few: a kill loses no more than this. */
const FLUSH_AFTER_MS = 300_000;
const EXTENSION = '.safetensors';
/** A file that is being written is younger; an older one was left by a process that was killed. */
const PARTIAL_MAX_AGE_MS = 3_600_000;

export class EncodingStore {
  readonly #folder: string;
  readonly #dtype: DType;
  readonly #shards: Tensor[] = [];
  readonly #places = new Map<string, { shard: Tensor; row: number }>();
  /** Rows that wait for their shard to be full. */
  readonly #pending = new Map<string, Tensor>();
  #flushedAt = performance.now();

  /**
   * Opens a folder, or makes it. A damaged shard is removed, since its rows can be computed again.
   * @param dtype of the values on disk
   */
  constructor(folder: string, dtype: DType, onMessage?: (message: string) => void) {
    this.#folder = folder;
    this.#dtype = dtype;
    makeFolder(folder);
    for (const name of readdirSync(folder)) {
      const file = join(folder, name);
      if (!name.endsWith(EXTENSION)) {
        // Gone by now, where another run has just finished it.
        const since = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
        if (name.endsWith('.partial') && Date.now() - since > PARTIAL_MAX_AGE_MS)
          rmSync(file, { force: true });
        continue;
      }
      try {
        this.#map(file);
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        onMessage?.(`Removed ${file}, which is damaged: its rows are encoded again`);
        rmSync(file, { force: true });
      }
    }
  }

  has(key: string): boolean {
    return this.#places.has(key) || this.#pending.has(key);
  }

  /** The rows of the keys, each of which must have been written, all of one shape: [b, …] on the CPU. */
  get(keys: readonly string[]): Tensor {
    return tidy(() =>
      stack(
        keys.map((key) => {
          const place = this.#places.get(key);
          if (place === undefined) throw new Error(`no entry ${key} in ${this.#folder}`);
          return place.shard.select(0, place.row);
        }),
      ),
    );
  }

  /** Takes over a batch of rows [b, …], and writes a shard when enough have come or time has passed. */
  add(keys: readonly string[], rows: Tensor): void {
    const kept = tidy(() => {
      const values = rows.to({ device: 'cpu', dtype: this.#dtype });
      return keys.map((_, i) => values.select(0, i));
    });
    rows.dispose();
    keys.forEach((key, i) => {
      this.#pending.set(key, kept[i] as Tensor);
    });
    const isOld = performance.now() - this.#flushedAt > FLUSH_AFTER_MS;
    if (isOld || this.#pending.size >= ROWS_PER_SHARD) this.flush();
  }

  /** Writes what waits. */
  flush(): void {
    this.#flushedAt = performance.now();
    if (this.#pending.size === 0) return;
    const byShape = new Map<string, string[]>();
    for (const [key, { shape }] of this.#pending) {
      const keys = byShape.get(shape.join());
      if (keys === undefined) byShape.set(shape.join(), [key]);
      else keys.push(key);
    }
    for (const keys of byShape.values()) this.#write(keys);
  }

  /** Writes a shard of rows that wait and have one shape. */
  #write(keys: readonly string[]): void {
    // A name that no other run on the same cache has.
    const file = join(this.#folder, randomUUID() + EXTENSION);
    const rows = keys.map((key) => this.#pending.get(key) as Tensor);
    tidy(() => writeSafetensors(file, new Map([['rows', stack(rows)]]), { keys: keys.join(' ') }));
    for (const row of rows) row.dispose();
    for (const key of keys) this.#pending.delete(key);
    this.#map(file);
  }

  #map(file: string): void {
    const { tensors, metadata } = readSafetensors(file);
    const shard = tensors.get('rows');
    const keys = metadata.keys?.split(' ');
    if (shard === undefined || keys?.length !== shard.shape[0])
      throw new CheckpointError(`Expected a shard of encodings in ${file}`);
    this.#shards.push(shard);
    keys?.forEach((key, row) => {
      this.#places.set(key, { shard, row });
    });
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.#shards, ...this.#pending.values()]) tensor.dispose();
  }
}
