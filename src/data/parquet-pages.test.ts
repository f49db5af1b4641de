import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { parquetOf } from '../../test/write-parquet.js';
import { DatasetError } from '../base/errors.js';
import { openParquet } from './parquet.js';

const dir = mkdtempSync(join(tmpdir(), 'ip-adapter-parquet-'));
afterAll(() => rmSync(dir, { recursive: true }));
const file = join(dir, '0.parquet');

const rows = ['a', 'b', 'c'].map((text) => ({ image: { bytes: Buffer.from(`image ${text}`) }, text }));
const good = parquetOf([rows]);

/** A run in six bytes, as many as the three runs that the writer makes of three levels. */
function runOf(header: number, level: number): Buffer {
  const bytes = [0, 7, 14, 21, 28].map((shift, i) => ((header >>> shift) & 127) | (i < 4 ? 128 : 0));
  return Buffer.from([...bytes, level]);
}
const repeated = (length: number, level: number) => runOf(length * 2, level);
const packed = (eights: number, bits: number) => runOf(eights * 2 + 1, bits);

/** Replaces bytes of the good file, at the last place where they are. */
async function openReplaced(old: Buffer, by: Buffer): Promise<unknown> {
  const bytes = Buffer.from(good);
  by.copy(bytes, bytes.lastIndexOf(old));
  writeFileSync(file, bytes);
  const { rows } = await openParquet([file]);
  for (const { image } of rows) await image.read();
  return rows.length;
}

const captionLevels = Buffer.from([2, 1, 2, 1, 2, 1]);
const imageLevels = Buffer.from([2, 2, 2, 2, 2, 2]);

it('reads levels that are one run', async () => {
  expect(await openReplaced(captionLevels, packed(1, 0b111))).toBe(3);
  expect(await openReplaced(captionLevels, repeated(3, 1))).toBe(3);
  expect(await openReplaced(imageLevels, repeated(3, 2))).toBe(3);
});

// With more than some 10^8, V8 ends the process.
it.each([4, 178_414_678, 2 ** 30])('refuses a run of %d values in a page of three', async (length) => {
  const captions = openReplaced(captionLevels, repeated(length, 1));
  await expect(captions).rejects.toThrow(DatasetError);
  await expect(captions).rejects.toThrow(
    `Expected text in row group 0 of ${file} but it is damaged: it has ${length} values in a run where at most 3 fit. Make or`,
  );
  await expect(openReplaced(imageLevels, repeated(length, 2))).rejects.toThrow(
    `row group 0 cannot be read: it has ${length} values in a run where at most 3 fit`,
  );
});

it.each([2, 2 ** 28, 2 ** 31 - 1])('refuses %d packed eights in a page of three', async (eights) => {
  await expect(openReplaced(captionLevels, packed(eights, 0b111))).rejects.toThrow(
    `it has ${eights * 8} values in a run where at most 10 fit`,
  );
});

it('refuses numbers of values that no page can have', async () => {
  // In the page's header and the column's: three values, PLAIN (or the column's size).
  const header = Buffer.from([0x15, 6, 0x15, 0]);
  await expect(openReplaced(header, Buffer.from([0x15, 126, 0x15, 0]))).rejects.toThrow(
    'it has 63 values in a page where at most 3 fit',
  );
  await expect(openReplaced(header, Buffer.from([0x15, 5, 0x15, 0]))).rejects.toThrow(
    'it has -3 values in a page where at most 3 fit',
  );
});

it('refuses a row group of other numbers of rows than its columns have', async () => {
  // The end of the footer: the row group's number of rows.
  const end = Buffer.from([0x16, 6, 0]);
  await expect(openReplaced(end, Buffer.from([0x16, 8, 0]))).rejects.toThrow(
    `a Parquet file at ${file} but it has 3 values in the 4 rows of row group 0`,
  );
  await expect(openReplaced(end, Buffer.from([0x16, 1, 0]))).rejects.toThrow('3 values in the -1 rows');
});

it.each([1, 3])('refuses a footer with a negative number of children (zigzag %d)', async (zigzag) => {
  const childrenOf = (number: number): Buffer =>
    Buffer.concat([Buffer.from('image\x15'), Buffer.from([number])]);
  await expect(openReplaced(childrenOf(4), childrenOf(zigzag))).rejects.toThrow(
    /^Expected a Parquet file at .* but it has a column/,
  );
});
