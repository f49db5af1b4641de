/**
 * @file Reads datasets for the page in a process of its own: the list of a million rows takes seconds to read, a remote one
 * has to be downloaded, and the studio answers meanwhile. The last datasets stay open.
 */
import process from 'node:process';
import sharp from 'sharp';
import { DatasetError, UserError } from '../base/errors.js';
import { assertWithin, rowWithin } from '../data/confined.js';
import { type Dataset, type DatasetRow, promptMaskOf } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { isRemote } from '../data/remote-names.js';
import { ImageError, useImage } from '../images/image.js';
import type {
  CheckedRows,
  DatasetName,
  DatasetPage,
  DatasetRowInfo,
  FromReader,
  ImageQuery,
  ReaderSettings,
  RowsQuery,
  ToReader,
} from './dataset-messages.js';
import { findRows } from './row-filter.js';

const KEPT = 3;
const MAX_LEFT_OUT = 200;

const { roots, shardCacheSize } = JSON.parse(process.argv[2] as string) as ReaderSettings;

interface Opened {
  dataset: Promise<Dataset>;
  /** Aborted where nobody waits for the opening any more. */
  abort: AbortController;
  /** Those who wait for it, and are told what takes long. */
  waiting: Set<number>;
  /** The rows of the last filter, by index. */
  found?: { key: string; rows: Promise<Uint32Array> };
}

/** In the order of use. */
const opened = new Map<string, Opened>();
/** What ends the work for a question. */
const cancels = new Map<number, AbortController>();

function keyOf({ path, masks, groupBy }: DatasetName): string {
  return JSON.stringify([path, masks, groupBy]);
}

function begin({ path, masks, groupBy }: DatasetName): Opened {
  const [abort, waiting] = [new AbortController(), new Set<number>()];
  const dataset = openDataset(
    {
      ...{ dataset: path, readMasks: masks, shardCacheSize },
      groupBy: groupBy === undefined ? undefined : [groupBy],
    },
    {
      signal: abort.signal,
      onMessage: (note) => {
        for (const id of waiting) tell({ id, note });
      },
      onFile: assertWithin(roots),
    },
  );
  return { dataset, abort, waiting };
}

async function open(name: DatasetName, id: number, signal: AbortSignal): Promise<Opened> {
  const key = keyOf(name);
  const one = opened.get(key) ?? begin(name);
  opened.delete(key);
  opened.set(key, one);
  const oldest = opened.keys().next().value as string;
  if (opened.size > KEPT) opened.delete(oldest);
  one.waiting.add(id);
  signal.addEventListener('abort', () => {
    if (!one.waiting.delete(id) || one.waiting.size > 0) return;
    if (opened.get(key) === one) opened.delete(key);
    one.abort.abort(signal.reason);
  });
  try {
    await one.dataset;
  } catch (error) {
    if (opened.get(key) === one) opened.delete(key);
    throw error;
  } finally {
    one.waiting.delete(id);
  }
  return one;
}

async function pageOf(query: RowsQuery, among: CheckedRows | undefined, one: Opened): Promise<DatasetPage> {
  const { rows, description, incomplete, leftOut } = await one.dataset;
  const { filter, text, from, count } = query;
  const isAll = filter === 'all' && text === '';
  const key = JSON.stringify([filter, text, among?.id]);
  if (!isAll && one.found?.key !== key) one.found = { key, rows: findRows(rows, query, among?.rows) };
  const found = isAll ? undefined : await one.found?.rows;
  const indices =
    found === undefined
      ? Array.from({ length: Math.max(0, Math.min(count, rows.length - from)) }, (_, i) => from + i)
      : [...found.subarray(from, from + count)];
  const others = [...incomplete, ...leftOut];
  return {
    ...{ description, total: rows.length, matches: found?.length ?? rows.length },
    rows: indices.map((index) => infoOf(index, rows.at(index) as DatasetRow)),
    leftOut: others.slice(0, MAX_LEFT_OUT).map(({ file, reason }) => ({ file, reason })),
    leftOutCount: others.length,
  };
}

function infoOf(index: number, { image, promptImage, captions, group, mask }: DatasetRow): DatasetRowInfo {
  return {
    ...{ index, name: image.name, captions: [...captions] },
    ...(promptImage === image ? {} : { reference: promptImage.name }),
    ...(group === undefined ? {} : { group }),
    ...(mask === undefined ? {} : { hasMask: true }),
  };
}

async function imageOf(
  { which, index, width, ...name }: ImageQuery,
  { dataset }: Opened,
): Promise<Uint8Array> {
  const found = (await dataset).rows.at(index);
  if (found === undefined) throw new DatasetError(`Expected a row ${index} in ${name.path} but it has fewer`);
  // A row may name any file of this machine; whoever may look at datasets may not look at all of them.
  const row = rowWithin(found, roots);
  const source = which === 'mask' ? promptMaskOf(row) : which === 'reference' ? row.promptImage : row.image;
  if (source === undefined) throw new DatasetError(`Row ${index} in ${name.path} has no mask`);
  try {
    return await useImage(source, ({ data, ...size }) =>
      sharp(data, { raw: { ...size, channels: 3 } })
        .resize({ width, withoutEnlargement: true })
        .webp({ quality: 80 })
        .toBuffer(),
    );
  } catch (error) {
    // A remote dataset ends with its first failure. The next question opens it anew.
    if (isRemote(name.path) && !(error instanceof ImageError)) opened.delete(keyOf(name));
    throw error;
  }
}

function tell(answer: FromReader): void {
  process.send?.(answer);
}

async function answer(message: Exclude<ToReader, { type: 'cancel' }>): Promise<void> {
  const { id } = message;
  const cancel = new AbortController();
  cancels.set(id, cancel);
  try {
    const one = await open(message.query, id, cancel.signal);
    if (message.type === 'rows') tell({ id, page: await pageOf(message.query, message.among, one) });
    else tell({ id, webp: await imageOf(message.query, one) });
  } catch (error) {
    const isFault = !(error instanceof UserError) && !cancel.signal.aborted;
    if (isFault) process.stderr.write(`${(error as Error).stack}\n`);
    tell({ id, error: (error as Error).message, isFault });
  } finally {
    cancels.delete(id);
  }
}

process.on('message', (message: ToReader) => {
  if (message.type === 'cancel') cancels.get(message.id)?.abort(new DatasetError('Nobody waits any more'));
  else void answer(message);
});
process.on('disconnect', () => process.exit());
