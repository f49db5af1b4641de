/**
 * @file Reads datasets for the page in a process of its own: the list of a million rows takes seconds to read, and the studio
 * answers meanwhile. The last datasets stay open.
 */
import process from 'node:process';
import sharp from 'sharp';
import { DatasetError, UserError } from '../base/errors.js';
import { isWithin } from '../base/within-folders.js';
import type { Dataset, DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { useImage } from '../images/image.js';
import type {
  DatasetPage,
  DatasetRowInfo,
  FromReader,
  ImageQuery,
  RowsQuery,
  ToReader,
} from './dataset-messages.js';

const KEPT = 3;
const MAX_LEFT_OUT = 200;

interface Opened {
  dataset: Dataset;
  /** The rows of the last filter, by index. */
  found?: { key: string; rows: Uint32Array };
}

/** In the order of use. */
const opened = new Map<string, Promise<Opened>>();

function open(path: string): Promise<Opened> {
  const known = opened.get(path) ?? openDataset({ dataset: path }).then((dataset) => ({ dataset }));
  opened.delete(path);
  opened.set(path, known);
  known.catch(() => opened.delete(path));
  if (opened.size > KEPT) opened.delete(opened.keys().next().value as string);
  return known;
}

function matches({ image, promptImage, captions, group }: DatasetRow, { filter, text }: RowsQuery): boolean {
  if (filter === 'no caption' && captions.some((caption) => caption.trim() !== '')) return false;
  if (filter === 'several captions' && captions.length < 2) return false;
  if (filter === 'another reference' && promptImage === image) return false;
  if (filter === 'grouped' && group === undefined) return false;
  if (text === '') return true;
  const wanted = text.toLowerCase();
  return [image.name, ...captions].some((one) => one.toLowerCase().includes(wanted));
}

async function pageOf(query: RowsQuery): Promise<DatasetPage> {
  const one = await open(query.path);
  const { rows, description, incomplete, leftOut } = one.dataset;
  const isAll = query.filter === 'all' && query.text === '';
  const key = JSON.stringify([query.filter, query.text]);
  if (!isAll && one.found?.key !== key) {
    const found: number[] = [];
    for (let i = 0; i < rows.length; i++) if (matches(rows.at(i) as DatasetRow, query)) found.push(i);
    one.found = { key, rows: Uint32Array.from(found) };
  }
  const { from, count } = query;
  const indices = isAll
    ? Array.from({ length: Math.max(0, Math.min(count, rows.length - from)) }, (_, i) => from + i)
    : [...(one.found as NonNullable<Opened['found']>).rows.subarray(from, from + count)];
  const others = [...incomplete, ...leftOut];
  return {
    ...{ description, total: rows.length, matches: isAll ? rows.length : (one.found?.rows.length ?? 0) },
    rows: indices.map((index) => infoOf(index, rows.at(index) as DatasetRow)),
    leftOut: others.slice(0, MAX_LEFT_OUT).map(({ file, reason }) => ({ file, reason })),
    leftOutCount: others.length,
  };
}

function infoOf(index: number, { image, promptImage, captions, group }: DatasetRow): DatasetRowInfo {
  return {
    ...{ index, name: image.name, captions: [...captions] },
    ...(promptImage === image ? {} : { reference: promptImage.name }),
    ...(group === undefined ? {} : { group }),
  };
}

async function imageOf(
  { path, index, which, width }: ImageQuery,
  roots: readonly string[],
): Promise<Uint8Array> {
  const row = (await open(path)).dataset.rows.at(index);
  if (row === undefined) throw new DatasetError(`Expected a row ${index} in ${path} but it has fewer`);
  const source = which === 'image' ? row.image : row.promptImage;
  // A row may name any file of this machine; whoever may look at datasets may not look at all of them.
  if (source.file !== undefined && !isWithin(source.file, roots))
    throw new DatasetError(`${source.name} is not in the folders of the studio's datasets`);
  return useImage(source, ({ data, ...size }) =>
    sharp(data, { raw: { ...size, channels: 3 } })
      .resize({ width, withoutEnlargement: true })
      .webp({ quality: 80 })
      .toBuffer(),
  );
}

process.on('message', async (message: ToReader) => {
  const { id } = message;
  const tell = (answer: FromReader): void => void process.send?.(answer);
  try {
    if (message.type === 'rows') tell({ id, page: await pageOf(message.query) });
    else tell({ id, webp: await imageOf(message.query, message.roots) });
  } catch (error) {
    const isFault = !(error instanceof UserError);
    if (isFault) process.stderr.write(`${(error as Error).stack}\n`);
    tell({ id, error: (error as Error).message, isFault });
  }
});
process.on('disconnect', () => process.exit());
