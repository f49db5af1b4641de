import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ParquetCodec, type ParquetTestRow, parquetOf } from '../../test/write-parquet.js';
import { DatasetError } from '../base/errors.js';
import { readImage } from '../images/image.js';
import { openParquet } from './parquet.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-parquet-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function written(name: string, groups: ParquetTestRow[][], codec?: ParquetCodec): string {
  writeFileSync(join(dir, name), parquetOf(groups, codec));
  return join(dir, name);
}

const row = (name: string, text: ParquetTestRow['text'] = `caption ${name}`): ParquetTestRow => ({
  image: { bytes: Buffer.from(`\xff\xd8 ${name}`, 'latin1'), path: `${name}.jpg` },
  text,
});
const latin1 = async (bytes: Promise<Uint8Array>) => Buffer.from(await bytes).toString('latin1');

describe('openParquet', () => {
  it.each(['none', 'snappy', 'gzip', 'zstd'] as const)(
    'reads images as bytes in any order, over files and row groups (%s)',
    async (codec) => {
      const files = [
        written('0.parquet', [[row('a'), row('b')], [row('c')]], codec),
        written('1.parquet', [[row('d'), row('e', '')]], codec),
      ];
      const { rows, description, incomplete } = await openParquet(files);
      expect([description, incomplete]).toEqual(['Parquet: 2 files, 5 rows', []]);
      expect([...rows].map(({ captions }) => captions)).toEqual(
        ['caption a', 'caption b', 'caption c', 'caption d', ''].map((caption) => [caption]),
      );
      for (const i of [4, 0, 2, 1, 3, 0])
        expect(await latin1(rows.at(i)!.image.read())).toBe(`\xff\xd8 ${'abcde'[i]}`);
      expect(rows.at(2)!.image.name).toBe(`${files[0]}/2/image`);
      const { image, promptImage } = rows.at(2)!;
      expect(promptImage).toBe(image);
      const all = await Promise.all([...rows].map(({ promptImage }) => latin1(promptImage.read())));
      expect(all).toEqual([...'abcde'].map((name) => `\xff\xd8 ${name}`));
    },
  );

  it('reads several captions, and the prompt image', async () => {
    const file = written('0.parquet', [
      [
        { ...row('a', ['one', 'two']), prompt: { bytes: Buffer.from('prompt a') } },
        { ...row('b', ['three']), prompt: { bytes: Buffer.from('prompt b') } },
        row('c', ['four']),
      ],
    ]);
    const { rows } = await openParquet([file]);
    expect([...rows].map(({ captions }) => captions)).toEqual([['one', 'two'], ['three'], ['four']]);
    expect(await latin1(rows.at(1)!.promptImage.read())).toBe('prompt b');
    expect(await latin1(rows.at(1)!.image.read())).toBe('\xff\xd8 b');
    // A row without one of its own.
    expect(await latin1(rows.at(2)!.promptImage.read())).toBe('\xff\xd8 c');
  });

  it('skips, counts and names rows without text, and stops at too many', async () => {
    const file = written('0.parquet', [[row('a'), row('b', null)], [row('c')]]);
    const { rows, incomplete } = await openParquet([file]);
    expect([...rows].map(({ captions }) => captions)).toEqual([['caption a'], ['caption c']]);
    expect(await latin1(rows.at(1)!.image.read())).toBe('\xff\xd8 c');
    expect(incomplete).toEqual([
      { file: `${file}/1`, reason: 'its "text" is not a string or a list of strings' },
    ]);
    const none = written('1.parquet', [Array.from({ length: 9 }, () => row('x', null))]);
    await expect(openParquet([file, none])).rejects.toThrow(/10 of 12 have none \(at most 8 are skipped\)/);
  });

  it('says where the bytes are not in the file', async () => {
    const file = written('0.parquet', [[{ ...row('a'), image: { bytes: null, path: 'a.jpg' } }]]);
    const { rows } = await openParquet([file]);
    await expect(rows.at(0)!.image.read()).rejects.toThrow(/bytes are not in the Parquet file/);
  });

  it('refuses a file without rows', async () => {
    const file = written('0.parquet', []);
    await expect(openParquet([file])).rejects.toThrow(/Expected at least one row in .*0\.parquet but/);
    await expect(openParquet([written('1.parquet', [[]])])).rejects.toThrow(/at least one row/);
  });

  it('tells the user of an image what is wrong with it, not that it is damaged', async () => {
    const absent = { ...row('a'), image: { bytes: null, path: 'a.jpg' } };
    const { rows } = await openParquet([written('0.parquet', [[absent]])]);
    await expect(readImage(rows.at(0)!.image)).rejects.toThrow(
      /0\.parquet\/0\/image but its bytes are not in the Parquet file \(datasets: push_to_hub/,
    );
    const file = written('1.parquet', [[row('a')]]);
    const damaged = await openParquet([file]);
    const bytes = readFileSync(file);
    bytes.fill(0xff, 4, bytes.indexOf('\xff\xd8 a', 0, 'latin1'));
    writeFileSync(file, bytes);
    await expect(readImage(damaged.rows.at(0)!.image)).rejects.toThrow(
      /1\.parquet\/0\/image but its row group 0 cannot be read: /,
    );
  });

  it('names a file that is none, and columns that are missing', async () => {
    const broken = join(dir, 'broken.parquet');
    writeFileSync(broken, parquetOf([[row('a')]]).subarray(0, -9));
    await expect(openParquet([broken])).rejects.toThrow(DatasetError);
    await expect(openParquet([broken])).rejects.toThrow(/a Parquet file at .*broken\.parquet but /);
    writeFileSync(broken, '');
    await expect(openParquet([broken])).rejects.toThrow(/broken\.parquet but it has 0 bytes/);
    const other = parquetOf([[row('a')]])
      .toString('latin1')
      .replaceAll('text', 'name');
    writeFileSync(broken, other, 'latin1');
    await expect(openParquet([broken])).rejects.toThrow(/"image" and "text" in .* are image, name; rename/);
  });

  it('names the row group of a damaged page', async () => {
    const file = written('0.parquet', [[row('a')], [row('b')]]);
    const bytes = readFileSync(file);
    // The first byte of a page's header: the type of page that follows it.
    bytes.fill(0xff, bytes.lastIndexOf('caption b') - 40, bytes.lastIndexOf('caption b'));
    writeFileSync(file, bytes);
    await expect(openParquet([file])).rejects.toThrow(DatasetError);
    await expect(openParquet([file])).rejects.toThrow(/row group 1 of .*0\.parquet but it is damaged/);
  });

  it('refuses columns that the schema lacks, and bytes past the end, with no error left to nobody', async () => {
    const stray: unknown[] = [];
    const keep = (reason: unknown) => stray.push(reason);
    process.on('unhandledRejection', keep);
    const file = written('0.parquet', [[row('a')]]);
    const bytes = readFileSync(file);
    const renamed = Buffer.from(bytes);
    renamed.write('pqth', renamed.lastIndexOf('path'));
    writeFileSync(file, renamed);
    await expect(openParquet([file])).rejects.toThrow(
      /a column \["image","pqth"\] that its schema does not have/,
    );

    const cut = Buffer.concat([bytes.subarray(0, 4), bytes.subarray(bytes.lastIndexOf('caption a') + 9)]);
    writeFileSync(file, cut);
    await expect(openParquet([file])).rejects.toThrow(DatasetError);
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', keep);
    expect(stray).toEqual([]);
  });

  it('has a fingerprint of sizes and captions, wherever the files are', async () => {
    const of = async (file: string) => (await openParquet([file])).fingerprint;
    const first = await of(written('0.parquet', [[row('a'), row('b')]]));
    expect(await of(written('0.parquet', [[row('a'), row('b')]]))).toBe(first);
    expect(await of(written('0.parquet', [[row('a'), row('b', 'caption B')]]))).not.toBe(first);
    expect(await of(written('0.parquet', [[row('a'), row('long b', 'caption b')]]))).not.toBe(first);
  });

  it('decodes one row group at a time, and keeps those that were used last', async () => {
    const size = 3e6;
    const groups = Array.from({ length: 60 }, (_, i) => [
      { image: { bytes: Buffer.alloc(size, i) }, text: String(i) },
    ]);
    const file = written('large.parquet', groups);
    groups.length = 0;
    const { rows } = await openParquet([file], undefined, 3 * size);
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const readAll = [...rows].map(async ({ image }, i) => {
      const bytes = await image.read();
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      return bytes[0] === i && bytes.length === size;
    });
    expect((await Promise.all(readAll)).every(Boolean)).toBe(true);
    // Three groups and what the collector has not met yet; all of them are 180 MB, and twice that with their copies.
    expect(most).toBeLessThan(120e6);
    // The last ones need no file any more.
    rmSync(file);
    for (const i of [59, 58]) expect((await rows.at(i)!.image.read())[0]).toBe(i);
    await expect(rows.at(40)!.image.read()).rejects.toThrow(/ENOENT/);
  });
});
