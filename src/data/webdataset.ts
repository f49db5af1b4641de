/**
 * @file WebDataset: tar files ("shards") of samples (webdataset/webdataset, docs "The WebDataset Format"). What a sample is
 * says shard-listing.ts. Shards are indexed by their headers alone; an image is read when it is needed.
 */
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { DatasetError } from '../base/errors.js';
import { type BadRow, counted, listed } from '../base/listing.js';
import { type ImageSource, sliceSource } from '../images/image-source.js';
import { maxBadRows } from './bad-rows.js';
import { type Dataset, ListHash, lazyRows } from './dataset.js';
import { type RemoteOptions, RemoteShards } from './remote-shards.js';
import { type RowFields, unpackExtras } from './row-fields.js';
import { ShardIndex } from './shard-index.js';
import { listShard, type Place, packedListing, type ShardListing, unpackedListing } from './shard-listing.js';

/**
 * Shares work on a list among processes, in the order of its indices; without it, one process does all.
 * @param length the same in all processes
 * @param work yields a JSON value for each of some indices, which are this process's
 * @returns the values of all indices, in order
 */
export type ShareOut = <T>(
  length: number,
  work: (own: readonly number[]) => AsyncIterable<T>,
) => AsyncIterable<T>;

export interface IndexOptions {
  /**
   * The number of shards that the rows are read from at a time. Where the index of all shards is large, only as many are kept
   * in memory, and a shard is listed again when it is opened. Default: all are kept.
   */
  openShards?: number | undefined;
  /** How the shards to be listed are shared among processes. */
  shareOut?: ShareOut | undefined;
}

/**
 * Indexes shards, in their order.
 * @param fields what is read of samples besides images and captions
 * @param signal is checked between two shards; its reason is thrown
 * @throws DatasetError where a file is not a tar, or too many samples have no image or no caption
 */
export async function openWebDataset(
  shards: readonly string[],
  {
    fields = {},
    signal,
    ...options
  }: IndexOptions & { fields?: RowFields; signal?: AbortSignal | undefined } = {},
): Promise<Dataset> {
  return indexShards(shards, options, {
    sizeOf: (shard) => statSync(shards[shard]!).size,
    async *list(own) {
      for (const shard of own) {
        await setImmediate();
        signal?.throwIfAborted();
        yield listShard(shards[shard]!, { fields });
      }
    },
    keep() {},
    listAgain: (shard) => listShard(shards[shard]!, { fields }),
    source: (shard, name, offset, size) =>
      sliceSource(`${shards[shard]}/${name}`, shards[shard]!, offset, size),
  });
}

/**
 * Indexes shards behind addresses, in their order. The rows, their order and the fingerprint are those of the same shards on
 * a disk.
 * @throws DatasetError as `openWebDataset`, and where a shard cannot be downloaded; the signal's reason
 */
export async function openRemoteWebDataset(
  urls: readonly string[],
  { openShards, shareOut, ...options }: RemoteOptions & IndexOptions = {},
): Promise<Dataset> {
  const remote = await RemoteShards.open(urls, options);
  // Without what may follow the path, such as a signature.
  const names = urls.map((url) => new URL(url).pathname);
  return indexShards(names, { openShards, shareOut }, remote);
}

/** Where shards are, on a disk or behind addresses. */
interface ShardAccess {
  sizeOf(shard: number): number;
  /** Lists some of the shards, in their order. */
  list(shards: readonly number[]): AsyncIterable<ShardListing>;
  /** Keeps what another process has listed, where `listAgain` needs it. */
  keep(shard: number, listing: ShardListing): void;
  listAgain(shard: number): ShardListing;
  source(shard: number, name: string, offset: number, size: number): ImageSource;
}

async function indexShards(
  shards: readonly string[],
  { openShards = 0, shareOut }: IndexOptions,
  access: ShardAccess,
): Promise<Dataset> {
  const hash = new ListHash();
  const incomplete: BadRow[] = [];
  const leftOut: BadRow[] = [];
  const index = new ShardIndex(shards, (shard) => access.listAgain(shard), openShards);
  let withoutEnd = 0;
  const listings =
    shareOut === undefined
      ? access.list([...shards.keys()])
      : sharedListings(shards.length, access, shareOut);
  for await (const listing of listings) {
    const number = index.counts.length;
    hash.add([basename(shards[number]!), access.sizeOf(number)]);
    // [shard, ...row]
    for (const row of listing.rows.lines()) hash.addJson(`[${number},${row.slice(1)}`);
    index.add(listing.rows);
    incomplete.push(...listing.incomplete);
    leftOut.push(...listing.leftOut);
    withoutEnd += listing.isComplete ? 0 : 1;
  }
  const { counts, length } = index;
  const total = length + incomplete.length;
  const limit = maxBadRows(total);
  if (length === 0 || incomplete.length > limit) {
    const lines = incomplete.map(({ file, reason }) => `${file}: ${reason}`);
    throw new DatasetError(
      `Expected an image and a caption in every sample of ${shards[0]}${shards.length > 1 ? ' …' : ''} ` +
        `but ${incomplete.length} of ${total} samples are incomplete (at most ${limit} are skipped):\n${listed(lines)}\n` +
        'The members of a sample have one name up to the first dot and stand together: pack with tar --sort=name.',
    );
  }
  const rows = lazyRows(length, (number) => {
    const { shard, row } = index.at(number);
    const [image, prompt, ...rest] = row;
    const { extras, captions } = unpackExtras(rest);
    const sourceOf = ([name, offset, size]: Place): ImageSource => access.source(shard, name, offset, size);
    const source = sourceOf(image);
    const promptImage = prompt === null ? source : sourceOf(prompt);
    return {
      ...{ image: source, promptImage, captions, group: extras.group },
      mask: extras.mask && sourceOf(extras.mask),
    };
  });
  const cut = withoutEnd === 0 ? '' : `; cut, or without an end mark: ${counted(withoutEnd, 'shard')}`;
  return {
    rows,
    shards: counts,
    description: `WebDataset: ${counted(shards.length, 'shard')}, ${counted(rows.length, 'sample')}${cut}`,
    fingerprint: hash.digest(),
    incomplete,
    leftOut,
  };
}

/** Lists shards as one of several processes, of which each opens some. */
async function* sharedListings(
  length: number,
  access: ShardAccess,
  shareOut: ShareOut,
): AsyncGenerator<ShardListing> {
  async function* work(own: readonly number[]) {
    for await (const listing of access.list(own)) yield unpackedListing(listing);
  }
  let shard = 0;
  for await (const unpacked of shareOut(length, work)) {
    const listing = packedListing(unpacked);
    access.keep(shard++, listing);
    yield listing;
  }
}
