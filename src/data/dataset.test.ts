import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DatasetError } from '../errors.js';
import { readDataset } from './dataset.js';

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-dataset-'));
  file = join(dir, 'data.json');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** The error of reading `content`. */
function errorOf(content: string | Uint8Array): Error {
  writeFileSync(file, content);
  try {
    readDataset(file, dir);
  } catch (error) {
    expect(error).toBeInstanceOf(DatasetError);
    expect((error as Error).message).toContain(file);
    return error as Error;
  }
  throw new Error('no error');
}

describe('readDataset', () => {
  it('reads rows with paths under the root, and ignores further keys', () => {
    const rows = [
      { image_file: '1.png', text: 'A dog', aesthetic: 6.1 },
      { image_file: 'sub/2.png', text: '' },
      { image_file: join(dir, 'elsewhere.png'), text: 'é' },
    ];
    writeFileSync(file, JSON.stringify(rows));
    const read = readDataset(file, dir);
    expect(read.map(({ image, captions }) => [image.file, ...captions])).toEqual([
      [join(dir, '1.png'), 'A dog'],
      [join(dir, 'sub', '2.png'), ''],
      [join(dir, 'elsewhere.png'), 'é'],
    ]);
    expect(read.every(({ image, promptImage }) => image === promptImage)).toBe(true);
  });

  it('says where broken JSON breaks', () => {
    const { message } = errorOf(
      '[\n{"image_file": "1.png", "text": "A"}\n{"image_file": "2.png", "text": "B"}\n]',
    );
    expect(message).toMatch(/breaks at 3:1, near: .*"2\.png"/);
  });

  it('refuses what is no list of rows', () => {
    expect(errorOf('{"image_file": "1.png"}').message).toMatch(
      /array of rows .* but received {"image_file":"1.png"}/,
    );
    expect(errorOf('[]').message).toMatch(/at least one row .* empty array/);
  });

  it('names every kind of wrong row with its index and content', () => {
    const good = { image_file: '1.png', text: 'A' };
    const { message } = errorOf(
      JSON.stringify([
        good,
        { text: 'B' },
        good,
        { image_file: '3.png' },
        { image_file: 4, text: 'D' },
        ['x'],
        { ...good, text: null },
        7,
        good,
      ]),
    );
    expect(message).toContain('6 of 9 rows are wrong');
    expect(message).toContain('row 1: "image_file" is missing: {"text":"B"}');
    expect(message).toContain('row 3: "text" is missing: {"image_file":"3.png"}');
    expect(message).toContain('row 4: "image_file" is not a path: {"image_file":4,"text":"D"}');
    expect(message).toContain('row 5: not an object: ["x"]');
    expect(message).toContain('row 6: "text" is not a string');
    expect(message).toContain('and 1 more');
  });

  it('refuses another encoding instead of replacing its letters', () => {
    expect(errorOf(Buffer.from('[{"image_file": "1.png", "text": "caf\xe9"}]', 'latin1')).message).toMatch(
      /UTF-8/,
    );
  });

  it('refuses a missing file and a missing folder of pictures', () => {
    expect(() => readDataset(file, dir)).toThrow(/data\.json but .*ENOENT/);
    writeFileSync(file, '[{"image_file": "1.png", "text": "A"}]');
    expect(() => readDataset(file, join(dir, 'absent'))).toThrow(/folder of pictures at .*absent/);
    expect(() => readDataset(file, file)).toThrow(DatasetError);
  });
});
