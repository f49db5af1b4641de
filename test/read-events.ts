/**
 * @file Reads TensorBoard event files, independently of the code that writes them, and returns the events that TensorBoard would
 * show (tensorflow/tensorboard event_accumulator.py).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

interface ReadImage {
  width: number;
  height: number;
  colorspace: number;
  png: Uint8Array;
}

export interface ReadEvent {
  time: number;
  step: number;
  fileVersion?: string;
  /** 1: START */
  sessionStatus?: number;
  scalars: Record<string, number>;
  images: Record<string, ReadImage>;
}

/** Computes CRC-32C (Castagnoli; RFC 3720, appendix B.4), without a table. */
export function crc32cBitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** Splits a file into records. @throws Error where a length or checksum is wrong, or the file is truncated */
export function splitRecords(bytes: Buffer): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    check(bytes.subarray(at, at + 8), bytes.readUInt32LE(at + 8));
    const data = bytes.subarray(at + 12, at + 12 + length);
    check(data, bytes.readUInt32LE(at + 12 + length));
    records.push(data);
    at += length + 16;
  }
  return records;
}

function check(data: Uint8Array, masked: number): void {
  const unmasked = (masked - 0xa282ead8) >>> 0;
  const crc = ((unmasked << 15) | (unmasked >>> 17)) >>> 0;
  if (crc !== crc32cBitwise(data)) throw new Error('Expected another checksum');
}

export function readEvents(file: string): ReadEvent[] {
  return splitRecords(readFileSync(file)).map(parseEvent);
}

type Field = number | bigint | string | Uint8Array;

/** Returns all occurrences of each field of a message, by field number. */
function fieldsOf(bytes: Uint8Array, float32: readonly number[] = []): Map<number, Field[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, Field[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const readers: Partial<Record<WireType, () => Field>> = {
      [WireType.Varint]: () => reader.int64() as bigint,
      [WireType.Bit64]: () => reader.double(),
      [WireType.Bit32]: () => (float32.includes(number) ? reader.float() : reader.fixed32()),
      [WireType.LengthDelimited]: () => reader.bytes(),
    };
    const value = readers[type]?.();
    if (value === undefined) throw new Error(`wire type ${type} is not used in events`);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

function parseEvent(bytes: Uint8Array): ReadEvent {
  const fields = fieldsOf(bytes);
  const event: ReadEvent = {
    time: fields.get(1)?.[0] as number,
    step: Number(fields.get(2)?.[0] ?? 0),
    scalars: {},
    images: {},
  };
  const version = fields.get(3)?.[0];
  if (version !== undefined) event.fileVersion = text(version);
  const session = fields.get(7)?.[0];
  if (session !== undefined) event.sessionStatus = Number(fieldsOf(session as Uint8Array).get(1)?.[0]);
  for (const summary of fields.get(5) ?? [])
    for (const value of fieldsOf(summary as Uint8Array).get(1) ?? []) {
      const parts = fieldsOf(value as Uint8Array, [2]);
      const tag = text(parts.get(1)?.[0]);
      if (parts.has(2)) event.scalars[tag] = parts.get(2)?.[0] as number;
      const image = parts.get(4)?.[0];
      if (image !== undefined) event.images[tag] = parseImage(image as Uint8Array);
    }
  return event;
}

function parseImage(bytes: Uint8Array): ReadImage {
  const fields = fieldsOf(bytes);
  const number = (key: number): number => Number(fields.get(key)?.[0]);
  return {
    height: number(1),
    width: number(2),
    colorspace: number(3),
    png: Uint8Array.from(fields.get(4)?.[0] as Uint8Array),
  };
}

function text(field: Field | undefined): string {
  return Buffer.from(field as Uint8Array).toString('utf8');
}

/**
 * Returns the events of a folder that TensorBoard shows: files in the order of their names, where a START event removes earlier
 * events of the same or a later step.
 */
export function readRun(folder: string): ReadEvent[] {
  const names = readdirSync(folder).filter((name) => name.includes('tfevents'));
  let events: ReadEvent[] = [];
  for (const name of names.sort())
    for (const event of readEvents(join(folder, name))) {
      if (event.sessionStatus === 1) events = events.filter(({ step }) => step < event.step);
      else if (event.fileVersion === undefined) events.push(event);
    }
  return events;
}
