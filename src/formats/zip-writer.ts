/**
 * @file Writes zip archives as torch does: entries uncompressed and aligned to 64 bytes so that readers can map them, with
 * Zip64 fields only where a size or an offset needs them (PKWARE APPNOTE 6.3, sections 4.3–4.5).
 */
import { crc32 } from 'node:zlib';

const ALIGNMENT = 64;
/** The first number that needs a Zip64 field instead of a 32-bit one. */
const ZIP64_LIMIT = 0xffffffff;
const STORED = 0;
/** Zip 4.5, the first version with Zip64. */
const VERSION = 45;
/** The flag for UTF-8 names. */
const FLAGS = 1 << 11;
/** 1980-01-01, zip's first date, in every file, so that equal content gives equal files. */
const DATE = 0x0021;

interface Written {
  name: Buffer;
  size: number;
  crc: number;
  headerOffset: number;
}

export class ZipWriter {
  readonly #append: (bytes: Uint8Array) => void;
  readonly #written: Written[] = [];
  #position = 0;

  /** @param append receives the archive's bytes, in order */
  constructor(append: (bytes: Uint8Array) => void) {
    this.#append = append;
  }

  add(name: string, data: Uint8Array): void {
    const entry = {
      name: Buffer.from(name),
      size: data.length,
      crc: checksum(data),
      headerOffset: this.#position,
    };
    this.#put(localHeader(entry));
    this.#put(data);
    this.#written.push(entry);
  }

  /** Writes the directory. No entries can be added afterwards. */
  finish(): void {
    const offset = this.#position;
    for (const entry of this.#written) this.#put(centralHeader(entry));
    this.#put(endOfDirectory(this.#written.length, offset, this.#position - offset));
  }

  #put(bytes: Uint8Array): void {
    this.#append(bytes);
    this.#position += bytes.length;
  }
}

/** Computes a CRC-32 in parts, since Node's crc32 takes at most 32-bit lengths. */
function checksum(data: Uint8Array): number {
  const part = 1 << 30;
  let sum = 0;
  for (let done = 0; done < data.length; done += part) sum = crc32(data.subarray(done, done + part), sum);
  return sum;
}

function localHeader({ name, size, crc, headerOffset }: Written): Buffer {
  const zip64 = size >= ZIP64_LIMIT ? extraField(1, [size, size]) : Buffer.alloc(0);
  // torch pads with its own extra field 'FB', which takes at least 4 bytes for id and length.
  const unpadded = headerOffset + 30 + name.length + zip64.length + 4;
  const padding = Buffer.alloc(4 + ((ALIGNMENT - (unpadded % ALIGNMENT)) % ALIGNMENT), 'Z');
  padding.write('FB', 0, 'latin1');
  padding.writeUInt16LE(padding.length - 4, 2);

  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  writeCommonFields(header, 4, crc, size);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(zip64.length + padding.length, 28);
  return Buffer.concat([header, name, zip64, padding]);
}

function centralHeader({ name, size, crc, headerOffset }: Written): Buffer {
  const zip64 = [
    ...(size >= ZIP64_LIMIT ? [size, size] : []),
    ...(headerOffset >= ZIP64_LIMIT ? [headerOffset] : []),
  ];
  const extra = zip64.length > 0 ? extraField(1, zip64) : Buffer.alloc(0);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(VERSION, 4);
  writeCommonFields(header, 6, crc, size);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(extra.length, 30);
  header.writeUInt32LE(Math.min(headerOffset, ZIP64_LIMIT), 42);
  return Buffer.concat([header, name, extra]);
}

/** Writes the fields from "version needed" to "uncompressed size", which both headers share. */
function writeCommonFields(header: Buffer, at: number, crc: number, size: number): void {
  header.writeUInt16LE(VERSION, at);
  header.writeUInt16LE(FLAGS, at + 2);
  header.writeUInt16LE(STORED, at + 4);
  header.writeUInt16LE(DATE, at + 8);
  header.writeUInt32LE(crc, at + 10);
  header.writeUInt32LE(Math.min(size, ZIP64_LIMIT), at + 14);
  header.writeUInt32LE(Math.min(size, ZIP64_LIMIT), at + 18);
}

function endOfDirectory(count: number, offset: number, size: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Math.min(count, 0xffff), 8);
  end.writeUInt16LE(Math.min(count, 0xffff), 10);
  end.writeUInt32LE(Math.min(size, ZIP64_LIMIT), 12);
  end.writeUInt32LE(Math.min(offset, ZIP64_LIMIT), 16);
  if (count < 0xffff && offset < ZIP64_LIMIT && size < ZIP64_LIMIT) return end;

  const end64 = Buffer.alloc(56 + 20);
  end64.writeUInt32LE(0x06064b50, 0);
  end64.writeBigUInt64LE(44n, 4); // the length of the rest of this record
  end64.writeUInt16LE(VERSION, 12);
  end64.writeUInt16LE(VERSION, 14);
  for (const [at, value] of [
    [24, count],
    [32, count],
    [40, size],
    [48, offset],
  ] as const) {
    end64.writeBigUInt64LE(BigInt(value), at);
  }
  end64.writeUInt32LE(0x07064b50, 56);
  end64.writeBigUInt64LE(BigInt(offset + size), 64);
  end64.writeUInt32LE(1, 72);
  return Buffer.concat([end64, end]);
}

/** Returns an extra field of 64-bit numbers. */
function extraField(id: number, values: readonly number[]): Buffer {
  const field = Buffer.alloc(4 + 8 * values.length);
  field.writeUInt16LE(id, 0);
  field.writeUInt16LE(8 * values.length, 2);
  for (const [i, value] of values.entries()) field.writeBigUInt64LE(BigInt(value), 4 + 8 * i);
  return field;
}
