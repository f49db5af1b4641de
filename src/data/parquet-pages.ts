/**
 * @file Checks pages of a Parquet file before hyparquet decodes them. hyparquet trusts their numbers: it writes a run of
 * 2^30 values past the end of its array, and V8 then ends the process, without an error that can be caught.
 * Format: apache/parquet-format, README.md and Encodings.md.
 */
import type { ColumnMetaData, Compressors, PageHeader, SchemaTree } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { decompressPage } from 'hyparquet/src/datapage.js';
import { readRleBitPackedHybrid } from 'hyparquet/src/encoding.js';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, isFlatColumn } from 'hyparquet/src/schema.js';
import { readVarInt } from 'hyparquet/src/thrift.js';

/** The most values of a column in a row group. A group is decoded whole, and with images none is nearly so long. */
export const MAX_VALUES = 2 ** 22;

/** The pages of one column in one row group. */
export interface ColumnChunk {
  /** In the file, in bytes. */
  readonly start: number;
  readonly end: number;
  readonly meta: ColumnMetaData;
  /** From the schema's root to the column. */
  readonly schemaPath: SchemaTree[];
}

interface Reader {
  readonly view: DataView;
  offset: number;
}

/** @throws Error where a page has other numbers of values or bytes than its header or its column says */
export function assertPages(
  bytes: Uint8Array,
  { meta, schemaPath }: ColumnChunk,
  compressors: Compressors | undefined,
): void {
  const total = Number(meta.num_values);
  const isFlat = isFlatColumn(schemaPath);
  const reader = readerOf(bytes);
  // hyparquet ends at the same places.
  for (let values = 0; reader.offset < bytes.length - 1 && !(isFlat && values >= total); ) {
    const header = parquetHeader(reader);
    const begin = reader.offset;
    reader.offset += within(header.compressed_page_size, bytes.length - begin, 'bytes in a page');
    if (header.type === 'DICTIONARY_PAGE')
      within(header.dictionary_page_header?.num_values, MAX_VALUES, 'values in a dictionary');
    else {
      const { num_values } = header.data_page_header ?? header.data_page_header_v2 ?? {};
      values += within(num_values, total - values, 'values in a page');
      assertRunsOfPage(bytes.subarray(begin, reader.offset), header, meta, schemaPath, compressors);
    }
  }
}

/** Checks the runs of a page's levels, and of its values where they are places in a dictionary. */
function assertRunsOfPage(
  bytes: Uint8Array,
  header: PageHeader,
  { codec, type }: ColumnMetaData,
  schemaPath: SchemaTree[],
  compressors: Compressors | undefined,
): void {
  const decompress = (part: Uint8Array, size: number): Uint8Array =>
    decompressPage(part, size, codec, compressors);
  const repetition = getMaxRepetitionLevel(schemaPath);
  const definition = getMaxDefinitionLevel(schemaPath);
  const { data_page_header: v1, data_page_header_v2: v2 } = header;
  let reader: Reader;
  let count: number;
  let encoding: string;
  let isBoolean: boolean;
  if (header.type === 'DATA_PAGE' && v1 !== undefined) {
    encoding = v1.encoding;
    isBoolean = type === 'BOOLEAN';
    if (repetition === 0 && definition === 0 && !isRuns(encoding)) return;
    reader = readerOf(decompress(bytes, header.uncompressed_page_size));
    if (repetition > 0) readLevels(reader, repetition, v1.num_values);
    const levels = definition > 0 ? readLevels(reader, definition, v1.num_values) : [];
    count = v1.num_values - levels.filter((level) => level !== definition).length;
  } else if (header.type === 'DATA_PAGE_V2' && v2 !== undefined) {
    encoding = v2.encoding;
    isBoolean = encoding === 'RLE';
    const { repetition_levels_byte_length: first, definition_levels_byte_length: second } = v2;
    const levels = readerOf(bytes);
    within(first, bytes.length, 'bytes of repetition levels');
    within(second, bytes.length - first, 'bytes of definition levels');
    count = v2.num_values - within(v2.num_nulls, v2.num_values, 'nulls in a page');
    if (repetition > 0) readLevels(levels, repetition, v2.num_values, first);
    levels.offset = first;
    if (definition > 0) readLevels(levels, definition, v2.num_values, second);
    if (!isRuns(encoding)) return;
    const packed = bytes.subarray(levels.offset);
    const size = header.uncompressed_page_size - first - second;
    reader = readerOf(v2.is_compressed === false || size === 0 ? packed : decompress(packed, size));
  } else return;
  if (!isRuns(encoding)) return;
  // Runs of booleans come after their length, others after the bits that each number has.
  if (isBoolean) reader.offset += 4;
  const width = isBoolean ? 1 : reader.view.getUint8(reader.offset++);
  // Of the only entry in a dictionary, hyparquet reads no runs in a page of the first version.
  if (width > 0 || header.type === 'DATA_PAGE_V2') assertRuns(reader, width, count);
}

const isRuns = (encoding: string): boolean => /RLE|DICTIONARY/.test(encoding);

/** Reads levels from 0 to `most`, of a length that is given, or written before them. */
function readLevels(reader: Reader, most: number, count: number, length?: number): number[] {
  const width = 32 - Math.clz32(most);
  assertRuns({ ...reader, offset: reader.offset + (length === undefined ? 4 : 0) }, width, count);
  const levels = new Array<number>(count);
  readRleBitPackedHybrid(reader, width, levels, length);
  return levels;
}

/** Checks that runs of numbers of `width` bits do not have more than `count` of them. */
function assertRuns(reader: Reader, width: number, count: number): void {
  within(width, 32, 'bits in a value');
  for (let seen = 0; seen < count; ) {
    const header = readVarInt(reader) >>> 0;
    const isPacked = (header & 1) === 1;
    const run = (header >>> 1) * (isPacked ? 8 : 1);
    // Packed numbers are filled up to eight.
    within(run, count - seen + (isPacked ? 7 : 0), 'values in a run');
    // hyparquet reads a byte of an empty one, too.
    reader.offset += isPacked ? Math.max(1, (run / 8) * width) : Math.ceil(width / 8);
    seen += run;
  }
}

function readerOf(bytes: Uint8Array): Reader {
  return { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
}

function within(number: number | undefined, most: number, what: string): number {
  if (number === undefined || !Number.isInteger(number) || number < 0 || number > most)
    throw new Error(`it has ${number} ${what} where at most ${most} fit`);
  return number;
}
