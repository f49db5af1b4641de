import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { crc32cBitwise, readEvents, readRun, splitRecords } from '../../../test/read-events.js';
import {
  EventFile,
  fileVersionEvent,
  imageEvent,
  scalarsEvent,
  sessionStartEvent,
  tfRecord,
} from './event-file.js';

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('the bytes', () => {
  it('are those that other writers give for the same events', () => {
    // What TeamHG-Memex/tensorboard_logger expects of its own writer (tests/test_tensorboard_logger.py).
    const published = [
      '\x18\0\0\0\0\0\0\0\xa3\x7fK"\t\0\0\0\0\0\x08p@\x1a\rbrain.Event:2\xbc\x98!+',
      '\x19\0\0\0\0\0\0\0\x8b\xf1\x08(\t\0\0\0\0\0\x08p@\x10\x01*\x0c\n\n\n\x03v/1\x15\0\0\xc0?,\xec\xc0\x87',
      '\x1a\0\0\0\0\0\0\0\x12\x9b\xd8-\t\0\0\0\0\0\x08p@\x10\x02*\r\n\x0b\n\x04v/22\x15\0\0\x80A\x8f\xa3\xb6\x88',
    ].map(latin1);
    const ours = [
      fileVersionEvent(256.5),
      scalarsEvent(256.5, 1, { 'v/1': 1.5 }),
      scalarsEvent(256.5, 2, { 'v/22': 16 }),
    ].map(tfRecord);
    expect(ours).toEqual(published);
    // And of TensorFlow's (tensorflow/tensorflow tensorflow/python/summary/impl/gcs_file_loader_test.py).
    const bytes = '\x18\0\0\0\0\0\0\0\xa3\x7fK"\t\0\0\0\'\xe6\xb3\xd5A\x1a\rbrain.Event:2jM\x0b\x15';
    expect(tfRecord(fileVersionEvent(latin1(bytes).readDoubleLE(13)))).toEqual(latin1(bytes));
  });

  it('carry checksums of RFC 3720, by a calculation that shares nothing with ours', () => {
    // Appendix B.4: 32 zeros, 32 ones, 0 … 31.
    expect(crc32cBitwise(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32cBitwise(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32cBitwise(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    const data = Uint8Array.from({ length: 999 }, (_, i) => (i * 7919) % 256);
    const record = tfRecord(data);
    expect(Buffer.from(splitRecords(record)[0]!)).toEqual(Buffer.from(data));
    for (const at of [0, 9, 500, record.length - 1]) {
      const spoilt = Buffer.from(record);
      spoilt[at]! ^= 1;
      expect(() => splitRecords(spoilt), `byte ${at}`).toThrow();
    }
  });
});

describe('EventFile', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'events-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('begins with the version and the start, and holds numbers and images', () => {
    const png = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
    const logs = join(folder, 'logs');
    {
      using file = new EventFile(logs, 1);
      file.write([
        scalarsEvent(5.5, 1, { loss: 0.25, 'lr/größe': 1e-4 }),
        scalarsEvent(6, 3_000_000_000, { loss: Number.NaN }),
      ]);
      file.write([imageEvent(7, 2, 'validation', { png, width: 300, height: 20 })]);
    }
    const [name = ''] = readdirSync(logs);
    expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\..+\.\d+\.\d+$/);
    const events = readEvents(join(logs, name));
    expect(events[0]).toMatchObject({ fileVersion: 'brain.Event:2', step: 0 });
    expect(Math.abs((events[0]?.time ?? 0) - Date.now() / 1000)).toBeLessThan(60);
    expect(events[1]).toMatchObject({ sessionStatus: 1, step: 1 });
    expect(events.slice(2)).toEqual([
      { time: 5.5, step: 1, scalars: { loss: 0.25, 'lr/größe': Math.fround(1e-4) }, images: {} },
      { time: 6, step: 3_000_000_000, scalars: { loss: Number.NaN }, images: {} },
      {
        time: 7,
        step: 2,
        scalars: {},
        images: { validation: { png, width: 300, height: 20, colorspace: 3 } },
      },
    ]);
  });

  it('of a resumed run takes back what an older one said of the same steps', () => {
    const loss = (step: number, value: number): Uint8Array => scalarsEvent(0, step, { loss: value });
    {
      using first = new EventFile(folder, 1);
      first.write([1, 2, 3, 4].map((step) => loss(step, step)));
    }
    {
      using second = new EventFile(folder, 3);
      second.write([loss(3, 30)]);
    }
    expect(readdirSync(folder)).toHaveLength(2);
    expect(readRun(folder).map(({ step, scalars }) => [step, scalars.loss])).toEqual([
      [1, 1],
      [2, 2],
      [3, 30],
    ]);
    expect(sessionStartEvent(256.5, 3)).toEqual(
      new Uint8Array(latin1('\t\0\0\0\0\0\x08p@\x10\x03:\x02\x08\x01')),
    );
  });
});
