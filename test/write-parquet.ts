/**
 * @file A small Parquet writer for tests: columns `image` {bytes, path}, `prompt_image`, `mask` and `text`, as written by Hugging Face's
 * datasets, with one PLAIN page in each column chunk. Format: apache/parquet-format, README.md and
 * src/main/thrift/parquet.thrift; Thrift's compact protocol.
 */
import { gzipSync } from 'node:zlib';

export interface ParquetTestRow {
  image: { bytes: Uint8Array | null; path?: string };
  prompt?: { bytes: Uint8Array };
  mask?: { bytes: Uint8Array };
  text: string | string[] | null;
}

type Cell = Uint8Array | string | string[] | null;

/** Snappy and Zstandard can store bytes uncompressed, which is enough to test that they are decoded. */
const codecs = {
  none: { id: 0, pack: (bytes: Buffer) => bytes },
  snappy: {
    id: 1,
    pack: (bytes: Buffer) =>
      // One literal, whose length takes four bytes.
      Buffer.concat([varint(bytes.length), Buffer.from([63 << 2]), uint32(bytes.length - 1), bytes]),
  },
  gzip: { id: 2, pack: (bytes: Buffer) => gzipSync(bytes) },
  zstd: { id: 6, pack: zstdOf },
};

/** Returns one Zstandard frame of raw blocks (RFC 8878). */
function zstdOf(bytes: Buffer): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 65536) {
    const block = bytes.subarray(at, at + 65536);
    const isLast = at + 65536 >= bytes.length ? 1 : 0;
    blocks.push(uint32((block.length << 3) | isLast).subarray(0, 3), block);
  }
  // A single segment, whose size takes four bytes.
  return Buffer.concat([uint32(0xfd2fb528), Buffer.from([0xa0]), uint32(bytes.length), ...blocks]);
}

export type ParquetCodec = keyof typeof codecs;

export function parquetOf(groups: readonly ParquetTestRow[][], codec: ParquetCodec = 'none'): Buffer {
  const hasPrompt = groups.flat().some(({ prompt }) => prompt !== undefined);
  const hasMask = groups.flat().some(({ mask }) => mask !== undefined);
  const isRepeated = groups.flat().some(({ text }) => Array.isArray(text));
  const columns = [...imageColumns('image', ({ image }) => image)];
  if (hasPrompt) columns.push(...imageColumns('prompt_image', ({ prompt }) => prompt ?? { bytes: null }));
  if (hasMask) columns.push(...imageColumns('mask', ({ mask }) => mask ?? { bytes: null }));
  columns.push({ path: ['text'], maxLevel: 1, value: ({ text }) => text });

  const parts: Buffer[] = [Buffer.from('PAR1')];
  let offset = 4;
  const rowGroups = groups.map((rows) => {
    const chunks = columns.map(({ path, maxLevel, value }) => {
      const values = rows.map(value);
      const page = pageOf(values, maxLevel);
      const packed = codecs[codec].pack(page);
      const dataHeader = struct([1, i32(values.flat().length)], [2, i32(0)], [3, i32(3)], [4, i32(3)]);
      const header = struct(
        [1, i32(0)],
        [2, i32(page.length)],
        [3, i32(packed.length)],
        [5, nested(dataHeader)],
      );
      const place = offset;
      parts.push(header, packed);
      const size = header.length + packed.length;
      offset += size;
      const meta = struct(
        ...([
          [1, i32(6)],
          [2, list([i32(0), i32(3)])],
          [3, list(path.map(binary))],
          [4, i32(codecs[codec].id)],
          [5, i64(values.flat().length)],
          [6, i64(header.length + page.length)],
          [7, i64(size)],
          [9, i64(place)],
        ] as Field[]),
      );
      return { chunk: struct([2, i64(place)], [3, nested(meta)]), size: header.length + page.length };
    });
    const total = chunks.reduce((sum, { size }) => sum + size, 0);
    return struct(
      [1, list(chunks.map(({ chunk }) => nested(chunk)))],
      [2, i64(total)],
      [3, i64(rows.length)],
    );
  });

  const names = ['image', ...(hasPrompt ? ['prompt_image'] : []), ...(hasMask ? ['mask'] : [])];
  const schema = [
    struct([4, binary('schema')], [5, i32(names.length + 1)]),
    ...names.flatMap((name) => [
      struct([3, i32(1)], [4, binary(name)], [5, i32(2)]),
      struct([1, i32(6)], [3, i32(1)], [4, binary('bytes')]),
      struct([1, i32(6)], [3, i32(1)], [4, binary('path')], [6, i32(0)]),
    ]),
    struct([1, i32(6)], [3, i32(isRepeated ? 2 : 1)], [4, binary('text')], [6, i32(0)]),
  ];
  const count = groups.flat().length;
  const footer = struct(
    [1, i32(1)],
    [2, list(schema.map(nested))],
    [3, i64(count)],
    [4, list(rowGroups.map(nested))],
  );
  return Buffer.concat([...parts, footer, uint32(footer.length), Buffer.from('PAR1')]);
}

interface Column {
  path: string[];
  /** The maximum definition level: the number of optional fields on the path to the value. */
  maxLevel: number;
  value: (row: ParquetTestRow) => Cell;
}

function imageColumns(
  name: string,
  of: (row: ParquetTestRow) => { bytes: Uint8Array | null; path?: string },
): Column[] {
  return [
    { path: [name, 'bytes'], maxLevel: 2, value: (row) => of(row).bytes },
    { path: [name, 'path'], maxLevel: 2, value: (row) => of(row).path ?? null },
  ];
}

/** Encodes a page: levels as one run for each value, then the values that are not null, each after its length. */
function pageOf(values: readonly Cell[], maxLevel: number): Buffer {
  const isRepeated = values.some(Array.isArray);
  const flat = values.flat() as (Uint8Array | string | null)[];
  const starts = values.flatMap((value) =>
    Array.isArray(value) ? value.map((_, i) => Math.min(i, 1)) : [0],
  );
  const defined = flat.map((value) => (value === null ? maxLevel - 1 : maxLevel));
  const levels = (isRepeated ? [starts, defined] : [defined]).flatMap((list) => {
    const runs = Buffer.from(list.flatMap((level) => [2, level]));
    return [uint32(runs.length), runs];
  });
  const present = flat.filter((value) => value !== null).map((value) => Buffer.from(value));
  return Buffer.concat([...levels, ...present.flatMap((bytes) => [uint32(bytes.length), bytes])]);
}

/** A value in Thrift's compact protocol, and its type. */
type Value = [type: number, bytes: Buffer];
type Field = [id: number, value: Value];

const i32 = (value: number): Value => [5, varint(value * 2)];
const i64 = (value: number): Value => [6, varint(value * 2)];
const binary = (value: string): Value => [
  8,
  Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value)]),
];
const nested = (bytes: Buffer): Value => [12, bytes];

function list(values: Value[]): Value {
  const type = values[0]?.[0] ?? 12;
  const head =
    values.length < 15
      ? [Buffer.from([(values.length << 4) | type])]
      : [Buffer.from([0xf0 | type]), varint(values.length)];
  return [9, Buffer.concat([...head, ...values.map(([, bytes]) => bytes)])];
}

function struct(...fields: Field[]): Buffer {
  let last = 0;
  const parts = fields.map(([id, [type, bytes]]) => {
    const head = Buffer.from([((id - last) << 4) | type]);
    last = id;
    return Buffer.concat([head, bytes]);
  });
  return Buffer.concat([...parts, Buffer.from([0])]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest < 128 ? rest : (rest % 128) | 128);
    if (rest < 128) return Buffer.from(bytes);
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
