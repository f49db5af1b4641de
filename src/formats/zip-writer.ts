/**
 * @file Writes zip archives as torch does: entries stored, their data on 64-byte boundaries so that a reader
 * can map them, Zip64 fields only where a size or an offset needs them (PKWARE APPNOTE 6.3, 4.3–4.5).
 */
import { crc32 } from 'node:zlib';

const ALIGNMENT = 64;
/** From here on a 32-bit field cannot hold the number; it is given in a Zip64 field. */
const WIDE = 0xffffffff;
const STORED = 0;
/** Zip 4.5, the first version with Zip64. */
const VERSION = 45;
/** Names are UTF-8. */
const FLAGS = 1 << 11;
/** 1980-01-01, the first date zip knows: equal content gives equal files. */
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

  /** @param append takes the archive's bytes, in order */
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

  /** Writes the directory. Nothing can be added after. */
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

/** Node's crc32 counts an array's length in 32 bits, so long ones go in parts. */
function checksum(data: Uint8Array): number {
  const part = 1 << 30;
  let sum = 0;
  for (let done = 0; done < data.length; done += part) sum = crc32(data.subarray(done, done + part), sum);
  return sum;
}

function localHeader({ name, size, crc, headerOffset }: Written): Buffer {
  const zip64 = size >= WIDE ? extraField(1, [size, size]) : Buffer.alloc(0);
  // torch pads with an extra field of its own, 'FB'; it has 4 bytes at least, its id and length.
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
  const wide = [...(size >= WIDE ? [size, size] : []), ...(headerOffset >= WIDE ? [headerOffset] : [])];
  const extra = wide.length > 0 ? extraField(1, wide) : Buffer.alloc(0);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(VERSION, 4);
  writeCommonFields(header, 6, crc, size);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(extra.length, 30);
  header.writeUInt32LE(Math.min(headerOffset, WIDE), 42);
  return Buffer.concat([header, name, extra]);
}

/** The fields from "version needed" to "uncompressed size", which both headers share. */
function writeCommonFields(header: Buffer, at: number, crc: number, size: number): void {
  header.writeUInt16LE(VERSION, at);
  header.writeUInt16LE(FLAGS, at + 2);
  header.writeUInt16LE(STORED, at + 4);
  header.writeUInt16LE(DATE, at + 8);
  header.writeUInt32LE(crc, at + 10);
  header.writeUInt32LE(Math.min(size, WIDE), at + 14);
  header.writeUInt32LE(Math.min(size, WIDE), at + 18);
}

function endOfDirectory(count: number, offset: number, size: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Math.min(count, 0xffff), 8);
  end.writeUInt16LE(Math.min(count, 0xffff), 10);
  end.writeUInt32LE(Math.min(size, WIDE), 12);
  end.writeUInt32LE(Math.min(offset, WIDE), 16);
  if (count < 0xffff && offset < WIDE && size < WIDE) return end;

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

/** An extra field of 64-bit numbers. */
function extraField(id: number, values: readonly number[]): Buffer {
  const field = Buffer.alloc(4 + 8 * values.length);
  field.writeUInt16LE(id, 0);
  field.writeUInt16LE(8 * values.length, 2);
  for (const [i, value] of values.entries()) field.writeBigUInt64LE(BigInt(value), 4 + 8 * i);
  return field;
}
