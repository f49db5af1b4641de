/** @file Damaged and malicious torch files: each causes one clear error and nothing else. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { code, craftTorchZip } from '../../test/craft-torch-zip.js';
import { CheckpointError } from '../base/errors.js';
import { arange } from '../torch/index.js';
import { readTorchZip, writeTorchZip } from './torch-zip.js';

const folder = mkdtempSync(join(tmpdir(), 'torch-zip-'));
afterAll(() => rmSync(folder, { recursive: true }));
const crafted = join(folder, 'crafted.bin');
const sixFloats = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);

describe('refuses', () => {
  const refuses = (path: string, message: RegExp) => {
    expect(() => readTorchZip(path)).toThrow(CheckpointError);
    expect(() => readTorchZip(path)).toThrow(message);
  };
  const storage = code.storage('FloatStorage', '0', 6);

  it('code: the classic os.system, and any class', () => {
    refuses(
      craftTorchZip(crafted, code.call(code.global('os', 'system'), code.text('true'))),
      /crafted\.bin.*names os\.system/,
    );
    refuses(
      craftTorchZip(crafted, code.global('torch.nn.modules.linear', 'Linear')),
      /names torch\.nn\.modules\.linear\.Linear/,
    );
  });

  it('views that end past their storage', () => {
    refuses(
      craftTorchZip(crafted, code.view(storage, 1, [6], [1]), { 0: sixFloats }),
      /\[6\] ends at element 6 of storage 0, which has 6/,
    );
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [2, 2], [5, 1]), { 0: sixFloats }),
      /ends at element 6/,
    );
    refuses(
      craftTorchZip(crafted, code.view(storage, -1, [2], [1]), { 0: sixFloats }),
      /without a valid shape/,
    );
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [2], [-1]), { 0: sixFloats }),
      /without a valid shape/,
    );
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [2], [1, 1]), { 0: sixFloats }),
      /without a valid shape/,
    );
  });

  it('shapes that would take all memory', () => {
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [2 ** 30, 4], [0, 0]), { 0: sixFloats }),
      /far more values than the file/,
    );
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [2 ** 30, 2 ** 30, 0], [0, 0, 0]), { 0: sixFloats }),
      /impossible shape/,
    );
  });

  it('a storage that is missing or has another size', () => {
    refuses(craftTorchZip(crafted, code.view(storage, 0, [6], [1])), /storage 0 is missing/);
    refuses(
      craftTorchZip(crafted, code.view(storage, 0, [6], [1]), { 0: sixFloats.subarray(4) }),
      /should have 24 bytes but has 20/,
    );
  });

  it('a size that is a list nested deeper than the stack', () => {
    const nested = Buffer.from(`${']'.repeat(50_000)}${'a'.repeat(49_999)}`);
    const id = code.tuple(
      code.text('storage'),
      code.global('torch', 'FloatStorage'),
      code.text('0'),
      code.text('cpu'),
      nested,
    );
    refuses(craftTorchZip(crafted, Buffer.concat([id, Buffer.from('Q')]), { 0: sixFloats }), /not a storage/);
  });

  it('overlapping entries, each as long as the file', () => {
    craftTorchZip(crafted, Buffer.from('N'), { 0: new Uint8Array(1000), 1: new Uint8Array(1000) });
    const bytes = readFileSync(crafted);
    const records: number[] = [];
    for (let at = bytes.indexOf('PK\x01\x02'); at >= 0; at = bytes.indexOf('PK\x01\x02', at + 1))
      records.push(at);
    const [, first, second] = records as [number, number, number];
    // The second storage gets the first one's size and offset, and both reach up to the directory.
    bytes.copy(bytes, second + 42, first + 42, first + 46);
    const size = (records[0] as number) - (bytes.readUInt32LE(first + 42) + 30 + 'a/data/0'.length) - 64;
    for (const record of [first, second]) for (const at of [20, 24]) bytes.writeUInt32LE(size, record + at);
    writeFileSync(crafted, bytes);
    refuses(crafted, /entries overlap/);
  });

  it('containers that are cyclic, too deep, or shared too often', () => {
    const itself = Buffer.from(']q\0h\0a', 'latin1');
    refuses(craftTorchZip(crafted, itself), /more than 100 deep/);
    refuses(
      craftTorchZip(crafted, Buffer.from(`${']'.repeat(200)}${'a'.repeat(199)}`)),
      /more than 100 deep/,
    );
    const doubled = Buffer.concat([
      Buffer.from(']'),
      ...Array<Buffer>(50).fill(Buffer.from('2\x86', 'latin1')),
    ]);
    refuses(craftTorchZip(crafted, doubled), /more than 2000000 values/);
  });

  it.each([
    ['an unknown instruction', Buffer.from('\xff', 'latin1'), /0xff is not used in checkpoints/],
    ['an empty stack', Buffer.alloc(0), /empty stack/],
    ['an unfinished text', Buffer.from('X\xff\xff\xff\x7fabc', 'latin1'), /middle of an instruction/],
    ['a text that is not UTF-8', Buffer.from('\x8c\x01\xff', 'latin1'), /not UTF-8/],
    ['a memo that is not set', Buffer.from('h\x05', 'latin1'), /uses memo 5 before/],
    ['a key without a value', Buffer.from('}(Nu'), /key without a value/],
    ['a giant integer', Buffer.from('\x8b\xff\xff\xff\x00', 'latin1'), /integer of 16777215 bytes/],
    ['items of a list as of a dictionary', Buffer.from('](NNu'), /other than a dictionary/],
    ['an unmatched mark', Buffer.from('t'), /did not start/],
    ['a storage as value', code.storage('FloatStorage', '0', 6), /other than tensors and plain values/],
    [
      'a call of something other than a function',
      code.call(code.global('torch', 'float32')),
      /calls torch\.float32/,
    ],
  ])('a pickle with %s', (_, pickle, message) => {
    refuses(craftTorchZip(crafted, pickle, { 0: sixFloats }), message);
  });

  it('big-endian numbers', () => {
    refuses(
      craftTorchZip(crafted, Buffer.from('N'), {}, { 'a/byteorder': Buffer.from('big') }),
      /big-endian/,
    );
  });

  it('the old format, with a remedy', () => {
    const path = join(folder, 'old.bin');
    writeFileSync(path, Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex'));
    refuses(path, /before 1\.6.*torch\.save\(torch\.load\('old\.bin'/);
  });

  it('other files', () => {
    const path = join(folder, 'other.bin');
    for (const content of ['', 'PK', 'x'.repeat(100_000)]) {
      writeFileSync(path, content);
      refuses(path, /other\.bin is not a usable torch file/);
    }
    refuses(folder, /cannot be opened: it is a folder, not a file/);
    refuses(join(folder, 'none.bin'), /none\.bin but it cannot be opened/);
  });
});

describe('a damaged file', () => {
  let good: Buffer;
  const path = join(folder, 'damaged.bin');
  const attempt = (bytes: Uint8Array) => {
    writeFileSync(path, bytes);
    try {
      readTorchZip(path);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      return error.message;
    }
    return 'read';
  };
  beforeAll(() => {
    writeTorchZip(path, {
      image_proj: new Map([['x', arange(0, 40)]]),
      ip_adapter: new Map([['y', arange(0, 9).reshape(3, 3)]]),
    });
    good = readFileSync(path);
  });

  it('truncated anywhere is refused', () => {
    for (let length = 0; length < good.length; length++)
      expect(attempt(good.subarray(0, length))).toMatch(/damaged\.bin/);
  });

  it('with a changed weight is refused', () => {
    const bytes = Buffer.from(good);
    const at = bytes.indexOf(Buffer.from(Float32Array.of(38, 39).buffer));
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(attempt(bytes)).toMatch(/data\/0 does not match its checksum/);
  });

  it('with compressed entries is refused', () => {
    const bytes = Buffer.from(good);
    bytes.writeUInt16LE(8, bytes.indexOf('PK\x01\x02') + 10);
    expect(attempt(bytes)).toMatch(/compressed/);
  });

  it('with any bytes changed is either read or refused', () => {
    const edit = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const bytes = Buffer.from(good);
        for (const { at, value } of edits) bytes[at] = value;
        attempt(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('with any pickle is either read or refused', () => {
    const pickle = good.subarray(good.indexOf(Buffer.from([0x80, 2])), good.indexOf('PK\x03\x04', 10));
    const instruction = fc.constantFrom(
      ...Buffer.from('()}].0122NJKMGXBCdsuelta\x85\x86\x87qrhjcRbQ\x8a\x8b\x8c\x94\x95', 'latin1'),
    );
    const edit = fc.record({ at: fc.nat(pickle.length - 1), value: instruction });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        const bytes = Buffer.from(pickle);
        for (const { at, value } of edits) bytes[at] = value;
        const values = new Uint8Array(160);
        try {
          readTorchZip(craftTorchZip(crafted, bytes.subarray(2), { 0: values, 1: values.subarray(0, 36) }));
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
