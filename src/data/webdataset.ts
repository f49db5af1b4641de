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
import { listShard, type PackedRow, type Place, type ShardListing } from './shard-listing.js';

/**
 * Indexes shards, in their order.
 * @param openShards the number of shards that the rows are read from at a time. Where the index of all shards is large, only
 * as many are kept in memory, and a shard is listed again when it is opened. Default: all are kept
 * @param fields what is read of samples besides images and captions
 * @param signal is checked between two shards; its reason is thrown
 * @throws DatasetError where a file is not a tar, or too many samples have no image or no caption
 */
export async function openWebDataset(
  shards: readonly string[],
  {
    openShards = 0,
    fields = {},
    signal,
  }: { openShards?: number | undefined; fields?: RowFields; signal?: AbortSignal | undefined } = {},
): Promise<Dataset> {
  return indexShards(shards, openShards, {
    sizeOf: (shard) => statSync(shards[shard]!).size,
    async list(shard, onRow) {
      await setImmediate();
      signal?.throwIfAborted();
      return listShard(shards[shard]!, { fields, onRow });
    },
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
  { openShards = 0, ...options }: RemoteOptions & { openShards?: number | undefined } = {},
): Promise<Dataset> {
  const remote = await RemoteShards.open(urls, options);
  // Without what may follow the path, such as a signature.
  const names = urls.map((url) => new URL(url).pathname);
  return indexShards(names, openShards, remote);
}

/** Where shards are, on a disk or behind addresses. */
interface ShardAccess {
  sizeOf(shard: number): number;
  list(shard: number, onRow: (row: PackedRow) => void): Promise<ShardListing>;
  listAgain(shard: number): ShardListing;
  source(shard: number, name: string, offset: number, size: number): ImageSource;
}

async function indexShards(
  shards: readonly string[],
  openShards: number,
  access: ShardAccess,
): Promise<Dataset> {
  const hash = new ListHash();
  const incomplete: BadRow[] = [];
  const leftOut: BadRow[] = [];
  const index = new ShardIndex(shards, (shard) => access.listAgain(shard), openShards);
  let withoutEnd = 0;
  for (const [number, shard] of shards.entries()) {
    hash.add([basename(shard), access.sizeOf(number)]);
    const listing = await access.list(number, (row) => hash.add([number, ...row]));
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
