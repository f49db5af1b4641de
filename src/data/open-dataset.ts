/** @file Opens a dataset by its path and detects its format. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { ConfigError, DatasetError } from '../base/errors.js';
import type { BadRow } from '../base/listing.js';
import { type Dataset, type DatasetRow, joinDatasets, ListHash, lazyRows } from './dataset.js';
import { filesIn } from './folder-files.js';
import { forEachDataset } from './for-each-dataset.js';
import { isImage, isUsualImage } from './image-endings.js';
import { addressesIn, httpAddress, isRemote } from './remote-names.js';
import type { RowFields } from './row-fields.js';
import type { ShareOut } from './webdataset.js';

export interface DatasetOptions {
  /** One or more datasets, whose rows are joined in this order. */
  dataset: string | readonly string[];
  /** The folder that paths in a JSON file are relative to; default: the folder of the file. */
  datasetRoot?: string | undefined;
  /** What rows of a group share, see `RowFields`: for all datasets, or for each. Default: rows have no groups. */
  groupBy?: readonly string[] | undefined;
  /** Whether masks are used. Default: false. */
  readMasks?: boolean | undefined;
  /** Text before every caption, for all datasets or for each; '' is none. */
  captionPrefix?: readonly string[] | undefined;
  /** The size of the cache of shards behind addresses, in GB (10⁹ bytes). Default: 100. */
  shardCacheSize?: number | undefined;
}

export interface OpenHooks {
  signal?: AbortSignal | undefined;
  onMessage?: ((message: string) => void) | undefined;
  /**
   * The output folder of the run, where standard input is saved; without it, `-` is refused. It is left out of a dataset
   * folder that contains it.
   */
  outputDir?: string;
  /** The number of shards that rows are read from at a time, see `openWebDataset`. Default: all. */
  openShards?: number | undefined;
  /** How the shards to be listed are shared among processes, see `openWebDataset`. */
  shareOut?: ShareOut | undefined;
  /** Is called with each file of lists, captions or shards before it is read; what it throws ends the opening. */
  onFile?: ((file: string) => void) | undefined;
  stdin?: Readable;
}

type Opening = OpenHooks & Pick<DatasetOptions, 'shardCacheSize'> & { fields: RowFields };

const FORMATS = 'a JSON, JSONL, Parquet or tar file, a folder of images with captions, or of such files';

/**
 * Opens datasets and checks their rows, so that a run does not stop later because of them. No image is read.
 * @throws ConfigError where the options contradict each other; DatasetError with the file and what is wrong in it
 */
export async function openDataset(
  { dataset, datasetRoot, groupBy, readMasks, captionPrefix, shardCacheSize }: DatasetOptions,
  hooks: OpenHooks = {},
): Promise<Dataset> {
  const names = [dataset].flat();
  const groupsOf = forEachDataset('--group-by (groupBy)', groupBy, names.length);
  const prefixOf = forEachDataset('--caption-prefix (captionPrefix)', captionPrefix, names.length);
  const opened: Dataset[] = [];
  for (const [i, name] of names.entries()) {
    const group = groupsOf(i);
    const fields = { groupBy: group === 'none' ? undefined : group, masks: readMasks };
    const one = await openOne(name, datasetRoot, { ...hooks, shardCacheSize, fields });
    opened.push(withPrefix(one, prefixOf(i)));
  }
  return opened.length === 1 ? (opened[0] as Dataset) : joinDatasets(opened);
}

/** Returns a dataset whose captions have a text before them (kohya-ss/sd-scripts `caption_prefix`). */
function withPrefix(dataset: Dataset, prefix = ''): Dataset {
  if (prefix === '') return dataset;
  const { rows, fingerprint } = dataset;
  const hash = new ListHash();
  for (const value of [fingerprint, prefix]) hash.add(value);
  const rowAt = (index: number): DatasetRow => {
    const row = rows.at(index) as DatasetRow;
    return { ...row, captions: row.captions.map((caption) => `${prefix} ${caption}`.trim()) };
  };
  return { ...dataset, rows: lazyRows(rows.length, rowAt), fingerprint: hash.digest() };
}

async function openOne(path: string, datasetRoot: string | undefined, hooks: Opening): Promise<Dataset> {
  const isJson = /\.(json|jsonl|ndjson)$/i.test(path);
  if (datasetRoot !== undefined && !isJson)
    throw new ConfigError(
      `--dataset-root (datasetRoot) is ${datasetRoot}, but --dataset ${path} is not a JSON file; leave it out`,
    );
  const opened = isJson ? await openJsonFile(path, datasetRoot, hooks) : await openFiles(path, hooks);
  hooks.onMessage?.(opened.description);
  reportRows(opened.incomplete, 'Skipped', hooks);
  reportRows(opened.leftOut, 'Left out', hooks);
  return opened;
}

/** The number of rows that are named in messages. */
const MAX_REPORTED = 5;

function reportRows(rows: readonly BadRow[], what: string, { onMessage }: OpenHooks): void {
  for (const { file, reason } of rows.slice(0, MAX_REPORTED)) onMessage?.(`${what} ${file}: ${reason}`);
  if (rows.length > MAX_REPORTED)
    onMessage?.(`${what} ${rows.length - MAX_REPORTED} more; ip-adapter data check names them all`);
}

// Each reader is imported on first use: WebAssembly for Parquet, for example, reserves gigabytes of virtual memory.

async function openJsonFile(
  file: string,
  imageRoot: string | undefined,
  { fields, onFile }: Opening,
): Promise<Dataset> {
  onFile?.(file);
  const { openJson, openJsonLines } = await import('./json-dataset.js');
  return /\.(jsonl|ndjson)$/i.test(file)
    ? openJsonLines(file, imageRoot, 'image_file', fields)
    : openJson(file, imageRoot, fields);
}

async function openTars(files: readonly string[], hooks: Opening): Promise<Dataset> {
  for (const file of files) hooks.onFile?.(file);
  return (await import('./webdataset.js')).openWebDataset(files, hooks);
}

async function openParquetFiles(
  files: readonly string[],
  { signal, fields, onFile }: Opening,
): Promise<Dataset> {
  for (const file of files) onFile?.(file);
  return (await import('./parquet.js')).openParquet(files, signal, undefined, fields);
}

async function openFiles(path: string, hooks: Opening): Promise<Dataset> {
  if (path === '-') {
    if (hooks.outputDir === undefined)
      throw new ConfigError(
        'Expected a file or folder for --dataset but received -, which only train accepts',
      );
    const { spool } = await import('./spool.js');
    return openTars([await spool(hooks.stdin ?? process.stdin, hooks.outputDir, hooks)], hooks);
  }
  if (isRemote(path)) return openRemote(expandBraces(path), hooks);
  if (/\.(txt|list)$/i.test(path) && existsSync(path) && statSync(path).isFile())
    return openList(path, hooks);
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(path))
    throw new DatasetError(
      `Expected ${FORMATS} but received ${path}; download it first, or pipe a tar: curl -L … | ip-adapter train --dataset -`,
    );
  if (existsSync(path) && statSync(path).isDirectory()) return openFolder(path, hooks);
  const files = existsSync(path) ? [path] : expandBraces(path);
  const absent = files.find((file) => !existsSync(file));
  if (absent !== undefined) throw new DatasetError(`Expected ${FORMATS} at ${absent} but there is nothing.`);
  const kind = kindOf(path);
  if (kind === 'tar') return openTars(files, hooks);
  if (kind === 'Parquet') return openParquetFiles(files, hooks);
  const hint = /\.(zip|7z|rar)$/i.test(path) ? '; unpack it, and give the folder' : '';
  throw new DatasetError(`Expected ${FORMATS} but received ${path}${hint}.`);
}

/** Opens shards behind addresses. They are loaded when they are needed. */
async function openRemote(addresses: readonly string[], hooks: Opening): Promise<Dataset> {
  const other = addresses.find((address) => !/\.tar$/i.test(new URL(address).pathname));
  if (other !== undefined)
    throw new DatasetError(
      `Expected the address of a tar, such as https://host/{000..099}.tar, but received ${other}; download other formats first.`,
    );
  const { shardCacheSize: gigabytes, openShards, shareOut, fields, signal, onMessage } = hooks;
  return (await import('./webdataset.js')).openRemoteWebDataset(addresses.map(httpAddress), {
    limit: gigabytes === undefined ? undefined : gigabytes * 1e9,
    ...{ openShards, shareOut, fields, signal, onMessage },
  });
}

/** Opens the shards in a list file, which are addresses, or paths relative to the file. */
async function openList(list: string, hooks: Opening): Promise<Dataset> {
  hooks.onFile?.(list);
  const lines = addressesIn(readFileSync(list, 'utf8')).flatMap(expandBraces);
  const other = lines.find((line) => !/\.tar(\?|$)/i.test(line));
  if (lines.length === 0 || other !== undefined)
    throw new DatasetError(
      `Expected ${FORMATS}, or a list of tars, but received ${list}, ${other === undefined ? 'which is empty' : `whose line ${other.slice(0, 80)} is not the name of a tar`}.`,
    );
  if (lines.every(isRemote)) return openRemote(lines, hooks);
  const local = lines.find((line) => isRemote(line));
  if (local !== undefined)
    throw new DatasetError(
      `Expected addresses alone or paths alone in ${list} but received both, such as ${local}.`,
    );
  const files = lines.map((line) => resolve(dirname(list), line));
  const absent = files.find((file) => !existsSync(file));
  if (absent !== undefined)
    throw new DatasetError(`Expected a tar at ${absent}, which ${list} names, but there is nothing.`);
  return openTars(files, hooks);
}

async function openFolder(folder: string, hooks: Opening): Promise<Dataset> {
  const { names, leftOut } = filesIn(folder, hooks.outputDir);
  const dataset = await openNames(folder, names, hooks);
  return { ...dataset, leftOut: [...leftOut, ...dataset.leftOut] };
}

async function openNames(folder: string, names: readonly string[], hooks: Opening): Promise<Dataset> {
  if (names.includes('metadata.jsonl')) {
    const list = join(folder, 'metadata.jsonl');
    hooks.onFile?.(list);
    return (await import('./json-dataset.js')).openJsonLines(list, folder, 'file_name', hooks.fields);
  }
  if (names.includes('metadata.csv'))
    throw new DatasetError(
      `Expected metadata.jsonl in ${folder} but received metadata.csv; write a line {"file_name": "1.png", "text": "A dog"} for each row.`,
    );
  const byKind = new Map<string, string[]>();
  for (const name of names) {
    const kind = kindOf(name);
    if (kind === null) continue;
    const files = byKind.get(kind) ?? [];
    byKind.set(kind, files);
    files.push(name);
  }
  // A logo.gif in a folder of shards does not make it a folder of images.
  if (byKind.size > 1 && !byKind.get('image')?.some(isUsualImage)) byKind.delete('image');
  // Captions without images may belong to images of unsupported formats, which openImageFolder reports.
  const hasCaptions = names.some((name) => /\.txt$/i.test(name));
  const [kind = hasCaptions ? 'image' : undefined] = byKind.keys();
  if (kind === undefined || byKind.size > 1) {
    const kinds = [...byKind].map(([one, { length }]) => `${length} of kind ${one}`).join(', ');
    const received = kinds || (names.length > 0 ? `other files, such as ${names[0]}` : 'nothing');
    throw new DatasetError(
      `Expected images with captions, or tar files, or Parquet files in ${folder} but received ${received}.`,
    );
  }
  const files = (byKind.get(kind) ?? []).map((name) => join(folder, name));
  if (kind === 'tar') return openTars(files, hooks);
  if (kind === 'Parquet') return openParquetFiles(files, hooks);
  for (const name of names) if (/\.txt$/i.test(name)) hooks.onFile?.(join(folder, name));
  return (await import('./image-folder.js')).openImageFolder(folder, names, hooks.fields);
}

/** Returns the kind of a file by its extension; null for others. @throws DatasetError for a compressed tar */
function kindOf(name: string): 'tar' | 'Parquet' | 'image' | null {
  if (/\.(tar\.(gz|xz|bz2|zst)|tgz)$/i.test(name))
    throw new DatasetError(
      `Expected a tar but received ${name}, which is compressed: its images can only be read one after another. Decompress it (gunzip); images hardly grow.`,
    );
  if (/\.tar$/i.test(name)) return 'tar';
  if (/\.parquet$/i.test(name)) return 'Parquet';
  return isImage(name) ? 'image' : null;
}

/** A limit above the number of shards in any dataset, and small enough for a list in memory. */
const MAX_SHARDS = 1_000_000;

/** Expands 'a-{000..002}.tar' to 'a-000.tar', 'a-001.tar', 'a-002.tar', as the shell and WebDataset do. */
function expandBraces(pattern: string): string[] {
  const match = /^(.*?)\{(\d+)\.\.(\d+)\}(.*)$/s.exec(pattern);
  if (match === null) return [pattern];
  const [, before, first, last, after] = match as unknown as [string, string, string, string, string];
  const count = Number(last) - Number(first) + 1;
  if (count < 1)
    throw new DatasetError(`Expected a range from low to high but ${pattern} names no file; swap its ends.`);
  if (count > MAX_SHARDS)
    throw new DatasetError(`Expected at most ${MAX_SHARDS} files but ${pattern} names ${count}.`);
  const numbers = Array.from({ length: count }, (_, i) =>
    String(Number(first) + i).padStart(first.length, '0'),
  );
  return numbers.flatMap((number) => expandBraces(after).map((rest) => `${before}${number}${rest}`));
}
