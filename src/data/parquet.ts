/**
 * @file Parquet files as Hugging Face's `datasets` writes them: a column `image` of {bytes, path}, a column `text` of a
 * string or a list of strings, and optionally columns `prompt_image` and `mask` like `image`, and one that groups rows.
 *
 * Only whole row groups can be decoded. Since rows are shuffled, one image may cost the decoding of its group: groups of a
 * few hundred rows, the default of `datasets`, work well.
 */
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { DatasetError, shown } from '../base/errors.js';
import { type BadRow, counted, listed } from '../base/listing.js';
import { regularFile } from '../base/regular-file.js';
import { type ImageSource, readSlice } from '../images/image-source.js';
import { maxBadRows } from './bad-rows.js';
import { captionsOf } from './captions.js';
import { type Dataset, ListHash, lazyRows } from './dataset.js';
import { PackedList } from './packed-list.js';
import { assertPages, type ColumnChunk, MAX_VALUES } from './parquet-pages.js';
import {
  assertGroupBy,
  type Extras,
  groupColumn,
  groupField,
  packExtras,
  type RowFields,
  unpackExtras,
} from './row-fields.js';

interface ParquetFile {
  readonly path: string;
  readonly buffer: AsyncBuffer;
  readonly metadata: FileMetaData;
  readonly compressors: Compressors | undefined;
  /** The first row of each row group, and the end of the last. */
  readonly starts: readonly number[];
  /** The columns that hold images. */
  readonly imageColumns: readonly string[];
}

/** The place of a row, its group if it has one, and its captions. */
type Packed = [file: number, group: number, rowInGroup: number, ...rest: (Extras<unknown> | string)[]];

/**
 * Opens files, in their order, and reads their captions.
 * @param signal is checked between two row groups; its reason is thrown
 * @param cachedBytes the memory for decoded row groups; one of them is kept in any case
 * @param fields what is read of rows besides images and captions
 * @throws DatasetError where a file is not a Parquet file, a column is missing, or too many rows have no caption
 */
export async function openParquet(
  paths: readonly string[],
  signal?: AbortSignal,
  cachedBytes = 256 * 2 ** 20,
  fields: RowFields = {},
): Promise<Dataset> {
  assertGroupBy(fields, 'a Parquet file', ['column']);
  const column = groupColumn(fields);
  const read = column === undefined ? ['text'] : ['text', column];
  const files: ParquetFile[] = [];
  const packed = new PackedList<Packed>();
  const hash = new ListHash();
  const incomplete: BadRow[] = [];
  for (const [number, path] of paths.entries()) {
    const file = await openFile(path, fields);
    files.push(file);
    hash.add([basename(path), file.buffer.byteLength]);
    let rowInFile = 0;
    for (const group of file.metadata.row_groups.keys()) {
      signal?.throwIfAborted();
      const rows = await readGroup(file, group, read);
      for (const [rowInGroup, row] of rows.entries()) {
        const captions = captionsOf(row.text);
        if (captions === null)
          incomplete.push({
            file: `${path}/${rowInFile}`,
            reason: 'its "text" is not a string or a list of strings',
          });
        else {
          const rest = packExtras(groupOf(row, `${path}/${rowInFile}`, fields), captions);
          packed.push([number, group, rowInGroup, ...rest]);
          hash.add(rest);
        }
        rowInFile++;
      }
    }
  }
  const total = packed.length + incomplete.length;
  if (total === 0)
    throw new DatasetError(
      `Expected at least one row in ${paths[0]}${paths.length > 1 ? ' …' : ''} but there is none.`,
    );
  const limit = maxBadRows(total);
  if (packed.length === 0 || incomplete.length > limit) {
    const lines = incomplete.map(({ file, reason }) => `${file}: ${reason}`);
    throw new DatasetError(
      `Expected "text" in every row of ${paths[0]}${paths.length > 1 ? ' …' : ''} ` +
        `but ${incomplete.length} of ${total} have none (at most ${limit} are skipped):\n${listed(lines)}`,
    );
  }
  const groups = new RowGroups(cachedBytes);
  const rows = lazyRows(packed.length, (index) => {
    const [number, group, rowInGroup, ...rest] = packed.at(index);
    const { extras, captions } = unpackExtras(rest);
    const file = files[number] as ParquetFile;
    const sourceOf = (column: string): ImageSource => ({
      name: `${file.path}/${(file.starts[group] as number) + rowInGroup}/${column}`,
      read: async () => {
        const rows = await groups.read(file, group).catch(({ cause }: { cause: Error }) => {
          throw new Error(`its row group ${group} cannot be read: ${cause.message}`, { cause });
        });
        const row = rows[rowInGroup] ?? {};
        // A row without a prompt image uses its image.
        if (column === 'mask' && isNone(row.mask)) throw new Error('it is null: every row needs a mask here');
        return bytesOf(column === 'prompt_image' && isNone(row[column]) ? row.image : row[column]);
      },
    });
    const image = sourceOf('image');
    const has = (column: string): boolean => file.imageColumns.includes(column);
    return {
      image,
      promptImage: has('prompt_image') ? sourceOf('prompt_image') : image,
      captions,
      group: extras.group,
      mask: has('mask') ? sourceOf('mask') : undefined,
    };
  });
  const description = `Parquet: ${counted(files.length, 'file')}, ${counted(rows.length, 'row')}`;
  return { rows, description, fingerprint: hash.digest(), incomplete, leftOut: [] };
}

/** @param name of the row, for the error @throws DatasetError where the value of its group is neither text nor a number */
function groupOf(row: Row, name: string, fields: RowFields): { group?: string } {
  const column = groupColumn(fields);
  try {
    return groupField(fields, '', column && row[column]);
  } catch (cause) {
    throw new DatasetError(`Expected a group in ${name} but ${(cause as Error).message}.`, { cause });
  }
}

async function openFile(path: string, fields: RowFields): Promise<ParquetFile> {
  let buffer: AsyncBuffer;
  let metadata: FileMetaData;
  try {
    buffer = bufferOf(path);
    // The smallest file: a magic number at either end, and the length of the footer.
    if (buffer.byteLength < 12) throw new Error(`it has ${buffer.byteLength} bytes`);
    // Without geometries: hyparquet would look for them for ever where an element has a negative number of children.
    metadata = await parquetMetadataAsync(buffer, { geoparquet: false });
    assertFooter(metadata);
  } catch (cause) {
    throw new DatasetError(`Expected a Parquet file at ${path} but ${(cause as Error).message}.`, { cause });
  }
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  const missing = ['image', 'text'].filter((column) => !columns.includes(column));
  if (missing.length > 0)
    throw new DatasetError(
      `Expected columns "image" and "text" in ${path} but its columns are ${columns.join(', ')}; rename them, with rename_column of Hugging Face's datasets.`,
    );
  const column = groupColumn(fields);
  if (column !== undefined && !columns.includes(column))
    throw new DatasetError(
      `Expected the column ${column}, of --group-by, in ${path} but its columns are ${columns.join(', ')}.`,
    );
  const imageColumns = ['image', 'prompt_image', ...(fields.masks ? ['mask'] : [])].filter((column) =>
    columns.includes(column),
  );
  const starts = [0];
  for (const { num_rows } of metadata.row_groups) starts.push((starts.at(-1) as number) + Number(num_rows));
  return { path, buffer, metadata, compressors: await compressorsFor(path, metadata), starts, imageColumns };
}

/**
 * Loads the decompressors for a file, or none if it is not compressed: importing them creates a WebAssembly instance, which
 * reserves gigabytes of virtual memory.
 * @throws DatasetError where there is not enough virtual memory
 */
async function compressorsFor(path: string, metadata: FileMetaData): Promise<Compressors | undefined> {
  const codecs = metadata.row_groups.flatMap(({ columns }) =>
    columns.map(({ meta_data }) => meta_data?.codec),
  );
  const codec = codecs.find((codec) => codec !== undefined && codec !== 'UNCOMPRESSED');
  if (codec === undefined) return undefined;
  try {
    return (await import('hyparquet-compressors')).compressors;
  } catch (cause) {
    // hyparquet itself decompresses Snappy without WebAssembly, more slowly.
    if (codecs.every((codec) => codec === 'UNCOMPRESSED' || codec === 'SNAPPY')) return undefined;
    throw new DatasetError(
      `Expected enough virtual memory for WebAssembly, which decompresses ${codec} in ${path}, but ${(cause as Error).message}. ` +
        'Allow more virtual memory (ulimit -v, about 20 GB), or write the file without compression.',
      { cause },
    );
  }
}

/**
 * Checks the columns, and the numbers that hyparquet allocates memory for. hyparquet itself would fail while it reads other
 * columns, whose errors nothing would catch.
 */
function assertFooter(metadata: FileMetaData): void {
  for (const [group, { num_rows }] of metadata.row_groups.entries()) {
    const chunks = chunksOf(metadata, group, ['image', 'prompt_image', 'mask', 'text']);
    for (const { meta } of chunks)
      if (!(num_rows >= 0 && num_rows <= meta.num_values))
        throw new Error(`it has ${meta.num_values} values in the ${num_rows} rows of row group ${group}`);
    const most = chunks.reduce((most, { meta }) => Math.max(most, Number(meta.num_values)), 0);
    if (most > MAX_VALUES)
      throw new Error(
        `it has ${most} values in row group ${group}; write row groups of a thousand rows, ${MAX_VALUES} at most`,
      );
  }
}

/** Returns the chunks of some columns in a row group, as hyparquet reads them. */
function chunksOf(metadata: FileMetaData, group: number, columns: readonly string[]): ColumnChunk[] {
  const schema = parquetSchema(metadata);
  const chunks = metadata.row_groups[group]?.columns ?? [];
  return chunks.flatMap(({ meta_data: meta }) => {
    const path = meta?.path_in_schema ?? [];
    const schemaPath: SchemaTree[] = [schema];
    for (const name of path) {
      const place = schemaPath.at(-1)?.children.find(({ element }) => element.name === name);
      if (place === undefined)
        throw new Error(`it has a column ${shown(path)} that its schema does not have`);
      schemaPath.push(place);
    }
    if (meta === undefined || !columns.includes(path[0] as string)) return [];
    const start = Number(meta.dictionary_page_offset || meta.data_page_offset);
    return [{ start, end: start + Number(meta.total_compressed_size), meta, schemaPath }];
  });
}

/** Returns a file in the form that hyparquet reads. */
function bufferOf(path: string): AsyncBuffer {
  const byteLength = statSync(regularFile(path)).size;
  const read = async (start: number, end: number): Promise<ArrayBuffer> => {
    // Without this check, a damaged footer could allocate memory for bytes beyond the end of the file.
    if (!(start >= 0 && start <= end && end <= byteLength))
      throw new Error(`it names bytes ${start} to ${end} of ${byteLength}`);
    return (await readSlice(path, start, end - start)).buffer as ArrayBuffer;
  };
  return { byteLength, slice: quiet(read, byteLength) };
}

/** hyparquet reads ahead and does not await bytes that it does not use: an unhandled rejection would end the process. */
function quiet(read: (start: number, end: number) => Promise<ArrayBuffer>, byteLength: number) {
  return (start: number, end = byteLength): Promise<ArrayBuffer> => {
    const bytes = read(start, end);
    bytes.catch(() => {});
    return bytes;
  };
}

/** A file whose pages are checked before hyparquet has them. It reads each chunk as a whole, perhaps together with others. */
function checked({ buffer, compressors }: ParquetFile, chunks: readonly ColumnChunk[]): AsyncBuffer {
  const read = async (start: number, end: number): Promise<ArrayBuffer> => {
    const bytes = await buffer.slice(start, end);
    for (const chunk of chunks)
      if (chunk.start >= start && chunk.end <= end)
        assertPages(new Uint8Array(bytes, chunk.start - start, chunk.end - chunk.start), chunk, compressors);
    return bytes;
  };
  return { byteLength: buffer.byteLength, slice: quiet(read, buffer.byteLength) };
}

type Row = Record<string, unknown>;

async function readGroup(file: ParquetFile, group: number, columns: readonly string[]): Promise<Row[]> {
  try {
    return await parquetReadObjects({
      file: checked(file, chunksOf(file.metadata, group, columns)),
      metadata: file.metadata,
      columns: [...columns],
      rowStart: file.starts[group] as number,
      rowEnd: file.starts[group + 1] as number,
      ...(file.compressors && { compressors: file.compressors }),
      // Byte arrays that are not declared as text stay bytes.
      utf8: false,
    });
  } catch (cause) {
    throw new DatasetError(
      `Expected ${columns.join(' and ')} in row group ${group} of ${file.path} but it is damaged: ${(cause as Error).message}. Make or download it again.`,
      { cause },
    );
  }
}

/** Returns whether a value is Python's None, in either of the forms that `datasets` writes. */
function isNone(value: unknown): boolean {
  const { bytes, path } = (value ?? {}) as { bytes?: unknown; path?: unknown };
  return !(value instanceof Uint8Array) && (bytes ?? path ?? null) === null;
}

/** Returns a copy of an image's bytes, so that the row group can be released. */
function bytesOf(value: unknown): Uint8Array {
  const bytes = value instanceof Uint8Array ? value : (value as { bytes?: unknown } | null)?.bytes;
  if (bytes instanceof Uint8Array) return bytes.slice();
  throw new Error('its bytes are not in the Parquet file (datasets: push_to_hub embeds them)');
}

/** Caches the row groups used last. It decodes one at a time: otherwise each image in flight could hold one. */
class RowGroups {
  readonly #decoded = new Map<string, { rows: Row[]; bytes: number }>();
  readonly #cachedBytes: number;
  #bytes = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(cachedBytes: number) {
    this.#cachedBytes = cachedBytes;
  }

  read(file: ParquetFile, group: number): Promise<Row[]> {
    const rows = this.#last.then(() => this.#decode(file, group));
    this.#last = rows.catch(() => {});
    return rows;
  }

  async #decode(file: ParquetFile, group: number): Promise<Row[]> {
    const key = `${group} ${file.path}`;
    const cached = this.#decoded.get(key);
    if (cached !== undefined) {
      // Move it to the end, since the first ones are removed first.
      this.#decoded.delete(key);
      this.#decoded.set(key, cached);
      return cached.rows;
    }
    const bytes = Number(file.metadata.row_groups[group]?.total_byte_size);
    for (const [oldest, { bytes: freed }] of this.#decoded) {
      if (this.#bytes + bytes <= this.#cachedBytes) break;
      this.#decoded.delete(oldest);
      this.#bytes -= freed;
    }
    const rows = await readGroup(file, group, file.imageColumns);
    this.#decoded.set(key, { rows, bytes });
    this.#bytes += bytes;
    return rows;
  }
}
