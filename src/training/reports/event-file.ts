/**
 * @file TensorBoard's event files. A file is a row of TFRecords, each of which frames one `Event` protobuf:
 *
 *     record    uint64 length, uint32 masked CRC-32C of the length, data, uint32 masked CRC-32C of the data; little-endian
 *               (tensorflow/tensorflow tensorflow/core/lib/io/record_writer.cc)
 *     Event     wall_time = 1, step = 2, and one of file_version = 3, summary = 5, session_log = 7
 *     Summary   value = 1 { tag = 1, and one of simple_value = 2, image = 4 }
 *               (tensorflow/tensorboard tensorboard/compat/proto/event.proto, summary.proto)
 */
import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { crc32c } from '@node-rs/crc32';
import { writeAll } from '../../base/atomic-file.js';
import { makeFolder } from '../../base/make-folder.js';

/** An image for TensorBoard. */
export interface EncodedImage {
  png: Uint8Array;
  /** In pixels. */
  width: number;
  height: number;
}

const FILE_VERSION = 'brain.Event:2';
/** SessionLog.SessionStatus.START */
const SESSION_START = 1;
/** Summary.Image.colorspace of RGB */
const RGB = 3;

/** The number of event files that this process has opened, which makes their names unique. */
let opened = 0;

/** An event file. Each start of a run creates a new one, in a folder that TensorBoard reads as one run. */
export class EventFile implements Disposable {
  readonly #file: number;

  /**
   * @param firstStep the first step to be written: TensorBoard forgets what older files of the folder say of it and of
   * later ones, which a resumed run does again
   */
  constructor(folder: string, firstStep: number) {
    makeFolder(folder);
    const now = Date.now() / 1000;
    // TensorBoard looks for 'tfevents', and reads files in the order of their names.
    const seconds = String(Math.floor(now)).padStart(10, '0');
    const name = `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${opened++}`;
    this.#file = openSync(join(folder, name), 'ax');
    this.write([fileVersionEvent(now), sessionStartEvent(now, firstStep)]);
  }

  /**
   * Appends events.
   * @throws the system's error; a record that was written in part is removed, since nothing after it could be read
   */
  write(events: readonly Uint8Array[]): void {
    const { size } = fstatSync(this.#file);
    try {
      writeAll(this.#file, Buffer.concat(events.map(tfRecord)));
    } catch (error) {
      ftruncateSync(this.#file, size);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

/** Returns the first event of a file. @param time seconds since 1970, as in all events */
export function fileVersionEvent(time: number): Uint8Array {
  return event(time, 0).tag(3, WireType.LengthDelimited).string(FILE_VERSION).finish();
}

/** Returns the event that a run starts or resumes with this step. */
export function sessionStartEvent(time: number, step: number): Uint8Array {
  const log = event(time, step).tag(7, WireType.LengthDelimited).fork();
  return log.tag(1, WireType.Varint).int32(SESSION_START).join().finish();
}

/** Returns an event with numbers by their tags; TensorBoard keeps them as float32. */
export function scalarsEvent(
  time: number,
  step: number,
  scalars: Readonly<Record<string, number>>,
): Uint8Array {
  const summary = event(time, step).tag(5, WireType.LengthDelimited).fork();
  for (const [tag, value] of Object.entries(scalars))
    startValue(summary, tag).tag(2, WireType.Bit32).float(value).join();
  return summary.join().finish();
}

export function imageEvent(
  time: number,
  step: number,
  tag: string,
  { png, width, height }: EncodedImage,
): Uint8Array {
  const summary = event(time, step).tag(5, WireType.LengthDelimited).fork();
  const image = startValue(summary, tag).tag(4, WireType.LengthDelimited).fork();
  for (const [i, value] of [height, width, RGB].entries()) image.tag(i + 1, WireType.Varint).int32(value);
  return image.tag(4, WireType.LengthDelimited).bytes(png).join().join().join().finish();
}

function event(time: number, step: number): BinaryWriter {
  const writer = new BinaryWriter().tag(1, WireType.Bit64).double(time);
  return step === 0 ? writer : writer.tag(2, WireType.Varint).int64(step);
}

function startValue(summary: BinaryWriter, tag: string): BinaryWriter {
  return summary.tag(1, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).string(tag);
}

/** Returns the data framed by its length and checksums. */
export function tfRecord(data: Uint8Array): Buffer {
  const record = Buffer.alloc(data.length + 16);
  record.writeBigUInt64LE(BigInt(data.length));
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc(data), data.length + 12);
  return record;
}

/** Returns the CRC-32C rotated right by 15 plus a constant, as TFRecord requires for data that contains checksums. */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
