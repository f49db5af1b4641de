import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tarOf } from '../../test/write-tar.js';
import { DatasetError } from '../base/errors.js';
import type { Rows } from './dataset.js';
import { openWebDataset } from './webdataset.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-webdataset-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

type Members = Parameters<typeof tarOf>[0];

async function shard(name: string, members: Members): Promise<string> {
  writeFileSync(join(dir, name), await tarOf(members));
  return join(dir, name);
}

/** What rows say, with the bytes of their images. */
async function contents(rows: Rows): Promise<unknown[]> {
  const read = [];
  for (const { image, promptImage, captions } of rows) {
    const bytes = Buffer.from(await image.read()).toString();
    const prompt = promptImage === image ? null : Buffer.from(await promptImage.read()).toString();
    read.push([image.name.slice(dir.length + 1), bytes, prompt, ...captions]);
  }
  return read;
}

describe('openWebDataset', () => {
  it('makes rows of members with one name, over shards, with every kind of caption', async () => {
    const shards = [
      await shard('a.tar', [
        ['README.md', 'about'],
        ['x/001.jpg', 'one'],
        ['x/001.txt', 'a dog\r\n\n  a brown dog \n'],
        ['x/001.json', '{"caption": "not this"}'],
        ['x/002.prompt.webp', 'prompt'],
        ['x/002.PNG', 'two'],
        ['x/002.json', '{"text": ["b", ""], "width": 3}'],
        ['x/002.cls', '7'],
      ]),
      await shard('b.tar', [
        ['001.json', '{"caption": "c"}'],
        ['001.jpeg', 'three'],
        ['v1.5/001.txt', ''],
        ['v1.5/001.webp', 'four'],
      ]),
    ];
    const { rows, description, incomplete } = await openWebDataset(shards);
    expect(await contents(rows)).toEqual([
      ['a.tar/x/001.jpg', 'one', null, 'a dog', 'a brown dog'],
      ['a.tar/x/002.PNG', 'two', 'prompt', 'b', ''],
      ['b.tar/001.jpeg', 'three', null, 'c'],
      ['b.tar/v1.5/001.webp', 'four', null, ''],
    ]);
    expect(description).toBe('WebDataset: 2 shards, 4 samples');
    expect(incomplete).toEqual([]);
  });

  it('takes a name that comes again for the next sample, as where tars were joined', async () => {
    const [a, b] = ['a', 'b'].map((text) => [['0.jpg', text] as const, ['0.txt', text] as const]);
    const { rows } = await openWebDataset([await shard('a.tar', [...a!, ...b!])]);
    expect(await contents(rows)).toEqual([
      ['a.tar/0.jpg', 'a', null, 'a'],
      ['a.tar/0.jpg', 'b', null, 'b'],
    ]);
  });

  it('skips, counts and names samples without an image or a caption', async () => {
    const file = await shard('a.tar', [
      ['1.jpg', 'one'],
      ['1.txt', 'a'],
      ['2.jpg', 'two'],
      ['3.txt', 'c'],
      ['4.jpg', 'four'],
      ['4.json', '{"caption": null}'],
      ['5.jpg', 'five'],
      ['5.json', '{"caption"'],
      ['6.jpg', 'six'],
      ['6.txt', Buffer.from('caf\xe9', 'latin1')],
      ['7.jpg', 'seven'],
      ['7.json', 'null'],
    ]);
    const { rows, incomplete } = await openWebDataset([file]);
    expect(await contents(rows)).toEqual([['a.tar/1.jpg', 'one', null, 'a']]);
    expect(incomplete).toEqual([
      { file: `${file}/2`, reason: 'it has no caption (.txt, or .json with "text" or "caption")' },
      { file: `${file}/3`, reason: expect.stringMatching(/^it has no image \(\.jpg, .*\.avif\)$/) },
      {
        file: `${file}/4`,
        reason: expect.stringMatching(/\.json gives no caption: "text" or "caption" is not/),
      },
      { file: `${file}/5`, reason: expect.stringContaining('.json gives no caption') },
      { file: `${file}/6`, reason: expect.stringContaining('.txt gives no caption') },
      { file: `${file}/7`, reason: expect.stringContaining('.json gives no caption') },
    ]);
  });

  it('passes over what macOS adds, in any place', async () => {
    const file = await shard('a.tar', [
      ['.DS_Store', 'x'],
      ['./._1.jpg', 'attributes'],
      ['./1.jpg', 'one'],
      ['./._1.txt', 'attributes'],
      ['./1.txt', 'a'],
      ['__MACOSX/1.jpg', 'attributes'],
      ['__MACOSX/1.txt', 'attributes'],
      ['a/._2.txt', 'attributes'],
      ['a/2.jpg', 'two'],
      ['a/.DS_Store', 'x'],
      ['a/2.txt', 'b'],
    ]);
    const { rows, incomplete, leftOut } = await openWebDataset([file]);
    expect(await contents(rows)).toEqual([
      ['a.tar/./1.jpg', 'one', null, 'a'],
      ['a.tar/a/2.jpg', 'two', null, 'b'],
    ]);
    expect([...incomplete, ...leftOut]).toEqual([]);
  });

  it('reads images of every ending, uses one of two, and names the other and what is not read', async () => {
    const file = await shard('a.tar', [
      ['1.avif', 'avif'],
      ['1.txt', 'a'],
      ['2.TIFF', 'tiff'],
      ['2.txt', 'b'],
      ['3.heic', 'heic'],
      ['3.txt', 'c'],
      ['4.jpg', 'first'],
      ['4.png', 'last'],
      ['4.txt', 'd'],
      ['5.avif', 'unusual'],
      ['5.jpg', 'usual'],
      ['5.txt', 'e'],
      ['6.jpg', 'usual'],
      ['6.tiff', 'unusual'],
      ['6.txt', 'f'],
    ]);
    const { rows, incomplete, leftOut } = await openWebDataset([file]);
    expect((await contents(rows)).map((row) => (row as unknown[]).slice(0, 2))).toEqual([
      ['a.tar/1.avif', 'avif'],
      ['a.tar/2.TIFF', 'tiff'],
      ['a.tar/4.png', 'last'],
      ['a.tar/5.jpg', 'usual'],
      ['a.tar/6.jpg', 'usual'],
    ]);
    expect(incomplete).toEqual([
      { file: `${file}/3`, reason: expect.stringMatching(/^it has no image .*; its \.heic is not read$/) },
    ]);
    expect(leftOut).toEqual([
      { file: `${file}/4.jpg`, reason: '4.png is used, of the same key' },
      { file: `${file}/5.avif`, reason: '5.jpg is used, of the same key' },
      { file: `${file}/6.tiff`, reason: '6.jpg is used, of the same key' },
    ]);
  });

  it('refuses a tar in which samples do not stand together, or without any', async () => {
    const keys = Array.from({ length: 6 }, (_, i) => String(i));
    const file = await shard('a.tar', [
      ...keys.map((key) => [`${key}.jpg`, key] as const),
      ...keys.map((key) => [`${key}.txt`, key] as const),
    ]);
    // The last image and the first caption have different names as well.
    const opening = openWebDataset([file]);
    await expect(opening).rejects.toThrow(DatasetError);
    await expect(opening).rejects.toThrow(/12 of 12 samples are incomplete \(at most 8 .*--sort=name/s);
    await expect(openWebDataset([await shard('b.tar', [['README', 'x']])])).rejects.toThrow(/0 of 0 samples/);
  });

  it('uses the whole samples of a cut shard, and names the one that it is cut in', async () => {
    const members: Members = [
      ['1.jpg', 'one'],
      ['1.txt', 'a'],
      ['2.jpg', 'two'],
      ['2.txt', 'b'],
    ];
    const whole = await tarOf(members);
    const file = join(dir, 'cut.tar');
    // Each member takes 1024 bytes.
    const cases: [length: number, rows: number, cut: string | null][] = [
      [2048, 1, null],
      [2048 + 512, 1, '2'],
      [2048 + 1024, 1, '2'],
      [2048 + 1100, 1, '2'],
      [2048 + 1024 + 512, 1, '2'],
      [2048 + 1024 + 513, 2, null],
    ];
    for (const [length, count, cut] of cases) {
      writeFileSync(file, whole.subarray(0, length));
      const { rows, incomplete, description } = await openWebDataset([file]);
      expect(rows.length, `${length} bytes`).toBe(count);
      const named = cut === null ? [] : [{ file: `${file}/${cut}`, reason: 'the shard is cut in it' }];
      expect(incomplete).toEqual(named);
      expect(description).toContain('cut, or without an end mark: 1 shard');
    }
    await expect(openWebDataset([file, join(dir, 'b.tar')])).rejects.toThrow(/ENOENT/);
  });

  it('does not take a sample for one without a prompt image where that is cut', async () => {
    const whole = await tarOf([
      ['1.jpg', 'one'],
      ['1.txt', 'a'],
      ['2.jpg', 'two'],
      ['2.txt', 'b'],
      ['2.prompt.jpg', 'prompt'],
    ]);
    const file = join(dir, 'cut.tar');
    writeFileSync(file, whole.subarray(0, 4 * 1024 + 514));
    const { rows, incomplete } = await openWebDataset([file]);
    expect(rows.length).toBe(1);
    expect(incomplete).toEqual([{ file: `${file}/2`, reason: 'the shard is cut in it' }]);
  });

  it('has a fingerprint of members, captions and sizes, wherever the shards are', async () => {
    const members: Members = [
      ['1.jpg', 'one'],
      ['1.txt', 'a'],
    ];
    const of = async (files: string[]) => (await openWebDataset(files)).fingerprint;
    const fingerprint = await of([await shard('a.tar', members)]);
    const moved = mkdtempSync(join(dir, 'moved-'));
    writeFileSync(join(moved, 'a.tar'), await tarOf(members));
    expect(await of([join(moved, 'a.tar')])).toBe(fingerprint);
    const others = [
      await of([await shard('a.tar', [members[0]!, ['1.txt', 'b']])]),
      await of([await shard('a.tar', [['1.jpg', 'two!'], members[1]!])]),
      await of([await shard('a.tar', [...members, ['more.bin', 'x'.repeat(20_000)]])]),
    ];
    expect(new Set([fingerprint, ...others]).size).toBe(4);
  });

  it('ends between shards when it is aborted', async () => {
    const reason = new Error('enough');
    const files = [await shard('a.tar', [['1.jpg', 'one']])];
    await expect(openWebDataset(files, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('names the shard where one is cut after it was opened', async () => {
    const file = await shard('a.tar', [
      ['1.jpg', 'one'],
      ['1.txt', 'a'],
    ]);
    const { rows } = await openWebDataset([file]);
    writeFileSync(file, '');
    await expect(rows.at(0)!.image.read()).rejects.toThrow(`${file} ends before byte 515`);
  });
});
