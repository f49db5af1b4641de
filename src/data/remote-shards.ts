/**
 * @file Shards behind addresses. Each is downloaded as a whole when a row of it is needed, and kept in a cache of limited size,
 * which all processes of a user share. The list of a shard's rows is kept without limit (about 130 bytes a row), so a shard
 * whose list is there is not downloaded to be listed.
 *
 *     <key>.tar            a shard; its time is that of its last use
 *     <key>.rows.json      its rows
 *     <address>.head.json  what the server last said of it
 *
 * A key is the hash of address, version and size: another version of a shard is another file.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { forEachConcurrently } from '../base/concurrently.js';
import { CheckpointError, DatasetError, isSystemError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { Throttle } from '../base/throttle.js';
import { downloadBlob } from '../hub/blob.js';
import { shardCache } from '../hub/cache-entries.js';
import { type HttpFile, probe, readFrom } from '../hub/http-file.js';
import { type ImageSource, readSlice, SourceFailure } from '../images/image-source.js';
import type { RowFields } from './row-fields.js';
import {
  listShard,
  packedListing,
  type ShardListing,
  type UnpackedListing,
  unpackedListing,
} from './shard-listing.js';

export interface RemoteOptions {
  /** The size of all shards in the cache, in bytes. */
  limit?: number | undefined;
  /** What is read of samples besides images and captions. */
  fields?: RowFields;
  signal?: AbortSignal | undefined;
  onMessage?: ((message: string) => void) | undefined;
  /** Pause before a retry; doubled after each. */
  pauseMs?: number | undefined;
}

const DEFAULT_LIMIT = 100e9;
const PROBED_AT_ONCE = 8;
/** Shards that are downloaded at the same time to be listed. */
const LISTED_AT_ONCE = 4;
const TOUCH_MS = 10_000;

export class RemoteShards {
  readonly #files: readonly HttpFile[];
  readonly #options: RemoteOptions;
  readonly #folder = shardCache();
  /** Downloads in progress, by shard. */
  readonly #arriving = new Map<number, Promise<string>>();
  /** Aborted with the error of the first download that fails, which ends the run: the others would keep the process alive. */
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;
  readonly #touched = new Map<number, number>();
  readonly #throttle = new Throttle();

  private constructor(files: readonly HttpFile[], options: RemoteOptions) {
    this.#files = files;
    this.#options = options;
    const { signal } = options;
    this.#signal =
      signal === undefined ? this.#failure.signal : AbortSignal.any([signal, this.#failure.signal]);
  }

  /**
   * Asks the servers for the size and version of each shard.
   * @throws DatasetError for a shard that does not exist, or is larger than the cache
   */
  static async open(urls: readonly string[], options: RemoteOptions): Promise<RemoteShards> {
    const files: HttpFile[] = [];
    // Aborted at the first that fails: the others would go on asking.
    const failure = new AbortController();
    const signal = AbortSignal.any([failure.signal, ...(options.signal ? [options.signal] : [])]);
    const ask = async (url: string, index: number): Promise<void> => {
      files[index] = await probe(url, { ...options, signal });
    };
    try {
      await forEachConcurrently(urls, PROBED_AT_ONCE, ask, signal);
    } catch (error) {
      failure.abort();
      throw error;
    }
    const shards = new RemoteShards(files, options);
    makeFolder(shards.#folder);
    for (const file of files) shards.#remember(file);
    return shards;
  }

  /** A shard's size in bytes. */
  sizeOf(shard: number): number {
    return this.#files[shard]!.size;
  }

  /** Lists shards, in their order. One whose rows are not known is downloaded, and the next ones meanwhile. */
  async *list(shards: readonly number[]): AsyncGenerator<ShardListing> {
    const ahead: Promise<ShardListing>[] = [];
    for (let i = 0; i < shards.length; i++) {
      for (const shard of shards.slice(i + ahead.length, i + LISTED_AT_ONCE)) {
        const listing = this.#listing(shard);
        // Its error is thrown when its turn comes.
        listing.catch(() => {});
        ahead.push(listing);
      }
      yield await (ahead.shift() as Promise<ShardListing>);
    }
  }

  /** Keeps a shard's rows, which another process has listed, perhaps on another host. */
  keep(shard: number, listing: ShardListing): void {
    const path = this.#rowsPath(shard);
    if (!existsSync(path)) writeWhole(path, JSON.stringify(unpackedListing(listing)));
  }

  /** Returns a shard's rows, which `list` has found or `keep` has kept. */
  listAgain(shard: number): ShardListing {
    return readSaved(this.#rowsPath(shard));
  }

  /** Returns the source of a part of a shard. */
  source(shard: number, name: string, offset: number, length: number): ImageSource {
    const read = async (): Promise<Uint8Array> => {
      for (;;) {
        let file: string;
        try {
          file = await this.#local(shard);
        } catch (error) {
          throw new SourceFailure(error);
        }
        try {
          return await readSlice(file, offset, length);
        } catch (error) {
          // Another process has removed it for a shard of its own.
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        }
      }
    };
    return { name: `${this.#files[shard]!.url}/${name}`, read };
  }

  /** Returns the file of a shard's rows, which depend on what is read of them. */
  #rowsPath(shard: number): string {
    const { groupBy, masks } = this.#options.fields ?? {};
    const read = [...(groupBy === undefined ? [] : [digest(groupBy)]), ...(masks ? ['masks'] : [])];
    return this.#path(shard, read.length === 0 ? 'rows.json' : `rows-${read.join('-')}.json`);
  }

  async #listing(shard: number): Promise<ShardListing> {
    const path = this.#rowsPath(shard);
    if (existsSync(path)) return readSaved(path);
    let file = await this.#local(shard);
    // Another process may have removed it for a shard of its own.
    while (!existsSync(file)) file = await this.#local(shard);
    const listing = listShard(file, { fields: this.#options.fields ?? {}, name: this.#files[shard]!.url });
    this.keep(shard, listing);
    return listing;
  }

  /** Returns the path of a shard, which is downloaded if it is not there. */
  async #local(shard: number): Promise<string> {
    const path = this.#path(shard, 'tar');
    if (existsSync(path)) {
      this.#touch(shard, path);
      return path;
    }
    const arriving =
      this.#arriving.get(shard) ?? this.#download(shard, path).finally(() => this.#arriving.delete(shard));
    this.#arriving.set(shard, arriving);
    return arriving;
  }

  async #download(shard: number, path: string): Promise<string> {
    const { onMessage, pauseMs, limit = DEFAULT_LIMIT } = this.#options;
    const file = this.#files[shard]!;
    const { url, size } = file;
    const content = { path: url, size, source: 'its server', digest: null };
    try {
      this.#makeRoom(size, limit, url);
      await downloadBlob(path, content, {
        read: async (from) => readFrom(file, from, this.#signal),
        onBytes: (bytes) => {
          if (this.#throttle.isDue())
            onMessage?.(`Downloading ${url}: ${gigabytes(bytes)} of ${gigabytes(size)} GB`);
        },
        onWait: () => onMessage?.(`Waiting for another process that is downloading ${url}`),
        signal: this.#signal,
        ...(pauseMs !== undefined && { pauseMs }),
      });
    } catch (cause) {
      this.#signal.throwIfAborted();
      const error = this.#inWords(cause, file);
      this.#failure.abort(error);
      throw error;
    }
    // Several may have arrived at the same time.
    this.#makeRoom(0, limit, url, path);
    return path;
  }

  #inWords(cause: unknown, { url, size }: HttpFile): unknown {
    if (cause instanceof CheckpointError) return new DatasetError(cause.message, { cause });
    if (!isSystemError(cause) || cause.code !== 'ENOSPC') return cause;
    return new DatasetError(
      `Expected ${gigabytes(size)} GB of free space for ${url} in ${this.#folder} but the disk is full; free some space, lower --shard-cache-size, or set IP_ADAPTER_CACHE to another folder.`,
      { cause },
    );
  }

  /** Removes the shards that were used least recently, but for `kept`, until `size` bytes more are within the limit. */
  #makeRoom(size: number, limit: number, url: string, kept?: string): void {
    if (size > limit)
      throw new DatasetError(
        `Expected shards of at most ${gigabytes(limit)} GB, the size of the cache, but ${url} has ${gigabytes(size)} GB; raise --shard-cache-size.`,
      );
    const shards = readdirSync(this.#folder)
      // A download that was interrupted takes room as well.
      .filter((name) => /\.tar(\.incomplete)?$/.test(name))
      .flatMap((name) => {
        const path = join(this.#folder, name);
        const stats = statSync(path, { throwIfNoEntry: false });
        return stats === undefined ? [] : [{ path, size: stats.size, mtimeMs: stats.mtimeMs }];
      })
      .sort((a, b) => a.mtimeMs - b.mtimeMs);
    let total = size + shards.reduce((sum, shard) => sum + shard.size, 0);
    for (const shard of shards) {
      if (total <= limit) return;
      if (shard.path === kept) continue;
      // Bytes of it may be on their way to a batch; it is downloaded again if it is needed again.
      rmSync(shard.path, { force: true });
      total -= shard.size;
    }
  }

  #touch(shard: number, path: string): void {
    const now = Date.now();
    if (now - (this.#touched.get(shard) ?? 0) < TOUCH_MS) return;
    this.#touched.set(shard, now);
    try {
      utimesSync(path, new Date(), new Date());
    } catch {
      // Another process has removed it.
    }
  }

  /** Says which shards are others than the last time. */
  #remember(file: HttpFile): void {
    const path = join(this.#folder, `${digest(file.url)}.head.json`);
    const now = JSON.stringify(file);
    const before = existsSync(path) ? readFileSync(path, 'utf8') : now;
    if (before !== now)
      this.#options.onMessage?.(`${file.url} has changed since it was last used; it is downloaded again`);
    if (before !== now || !existsSync(path)) writeWhole(path, now);
  }

  #path(shard: number, extension: 'tar' | 'rows.json' | `rows-${string}.json`): string {
    const { url, version, size } = this.#files[shard]!;
    return join(this.#folder, `${digest(`${url}\n${version}\n${size}`)}.${extension}`);
  }
}

function readSaved(path: string): ShardListing {
  return packedListing(JSON.parse(readFileSync(path, 'utf8')) as UnpackedListing);
}

/** Writes a file so that other processes never see a part of it. */
function writeWhole(path: string, text: string): void {
  const partial = `${path}.${process.pid}.tmp`;
  writeFileSync(partial, text);
  renameSync(partial, path);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(bytes < 1e8 ? 4 : 2);
}
