import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DatasetError } from '../base/errors.js';
import { openJson, openJsonLines } from './json-dataset.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-json-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Writes a file of the folder, and returns its path. */
function written(name: string, content: string | Uint8Array): string {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
}

const opened = (file: string, root?: string) => (file.endsWith('l') ? openJsonLines : openJson)(file, root);

/** The error of opening `content` as data.json, or as data.jsonl. */
async function errorOf(content: string | Uint8Array, name = 'data.json'): Promise<Error> {
  const file = written(name, content);
  const error = await opened(file).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(DatasetError);
  expect((error as Error).message).toContain(file);
  return error as Error;
}

const lines = (rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

describe.each(['data.json', 'data.jsonl'])('%s', (name) => {
  const write = (rows: unknown[]) =>
    written(name, name === 'data.json' ? JSON.stringify(rows, null, 1) : lines(rows));

  it('gives rows with paths under the root, one caption or several, and ignores further keys', async () => {
    const file = write([
      { image_file: '1.png', text: 'A dog', aesthetic: 6.1 },
      { image_file: 'sub/2.png', text: ['', 'é'] },
      { image_file: '/elsewhere/3.png', text: '', prompt_image_file: 'prompts/3.png' },
    ]);
    for (const root of [dir, undefined]) {
      const { rows, description } = await opened(file, root);
      expect(rows.length).toBe(3);
      expect([...rows].map(({ image, captions }) => [image.name, image.file, ...captions])).toEqual([
        [join(dir, '1.png'), join(dir, '1.png'), 'A dog'],
        [join(dir, 'sub', '2.png'), join(dir, 'sub', '2.png'), '', 'é'],
        ['/elsewhere/3.png', '/elsewhere/3.png', ''],
      ]);
      const [first, , third] = [rows.at(0)!, rows.at(1)!, rows.at(2)!];
      expect(first.promptImage).toBe(first.image);
      expect(third.promptImage.file).toBe(join(dir, 'prompts', '3.png'));
      expect(rows.at(3)).toBeUndefined();
      expect(description).toContain('3 rows');
    }
  });

  it('names every kind of wrong row with its place and content', async () => {
    const good = { image_file: '1.png', text: 'A' };
    const wrong: [unknown, string][] = [
      [{ text: 'B' }, '"image_file" is missing: {"text":"B"}'],
      [{ image_file: '3.png' }, '"text" is missing'],
      [{ image_file: 4, text: 'D' }, '"image_file" is not a path: {"image_file":4,"text":"D"}'],
      [['x'], 'not an object: ["x"]'],
      [7, 'not an object: 7'],
      [{ ...good, text: null }, '"text" is not a string or an array of strings'],
      [{ ...good, text: [] }, '"text" is not a string or an array of strings'],
      [{ ...good, text: ['a', 1] }, '"text" is not a string or an array of strings'],
      [{ ...good, prompt_image_file: 1 }, '"prompt_image_file" is not a path'],
      [{ ...good, image_file: 'https://a.example/1.png' }, 'images are not downloaded: download them first'],
    ];
    for (const [row, reason] of wrong) {
      const error = await opened(write([good, row, good])).catch((e: unknown) => e as Error);
      expect(error).toBeInstanceOf(DatasetError);
      const place = name === 'data.json' ? 'row 1' : `${join(dir, name)}:2`;
      expect((error as Error).message).toContain('1 of 3 rows are wrong');
      expect((error as Error).message).toContain(`${place}: ${reason}`);
    }
    const many = await opened(write(wrong.map(([row]) => row))).catch((e: unknown) => e as Error);
    expect((many as Error).message).toMatch(/10 of 10 rows are wrong.*and 5 more/s);
  });

  it('has a fingerprint of names and captions, wherever it is', async () => {
    const rows = [
      { image_file: '1.png', text: 'A' },
      { image_file: '2.png', text: ['B', 'C'] },
    ];
    const of = async (changed: unknown[], root?: string) => (await opened(write(changed), root)).fingerprint;
    const fingerprint = await of(rows);
    expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(
      await of(
        rows.map((row) => ({ ...row, more: 1 })),
        tmpdir(),
      ),
    ).toBe(fingerprint);
    expect(await of(rows.map((row) => ({ ...row, image_file: join(dir, row.image_file) })))).toBe(
      fingerprint,
    );
    const others = [
      [...rows].reverse(),
      [rows[0], { image_file: '2.png', text: ['B', 'c'] }],
      [rows[0], { image_file: '3.png', text: ['B', 'C'] }],
      [rows[0], { ...rows[1], prompt_image_file: 'p.png' }],
      [rows[0]],
    ];
    const all = [fingerprint];
    for (const other of others) all.push(await of(other));
    expect(new Set(all).size).toBe(6);
  });

  it('says so where JSON Lines have the ending of an array, or the other way round', async () => {
    const lines = join(dir, 'lines.json');
    writeFileSync(lines, '\n{"image_file": "1.png", "text": "a"}\n{"image_file": "2.png", "text": "b"}\n');
    await expect(openJson(lines)).rejects.toThrow(/lines\.json but received JSON Lines.* ending \.jsonl/);
    const array = join(dir, 'array.jsonl');
    for (const space of ['', '\n  ']) {
      writeFileSync(array, `[${space}{"image_file": "1.png", "text": "a"}${space}]`);
      await expect(openJsonLines(array)).rejects.toThrow(
        /array\.jsonl but received an array.* ending \.json/,
      );
    }
  });

  it('refuses a missing file, an empty list, and a missing folder of images', async () => {
    await expect(opened(join(dir, name))).rejects.toThrow(new RegExp(`${name} but .*ENOENT`));
    await expect(opened(write([]))).rejects.toThrow(/at least one row .* none/);
    const file = write([{ image_file: '1.png', text: 'A' }]);
    await expect(opened(file, join(dir, 'absent'))).rejects.toThrow(/folder of images at .*absent/);
    await expect(opened(file, file)).rejects.toThrow(/folder of images/);
  });
});

describe('openJson', () => {
  it('has the fingerprint that checkpoints of earlier versions have', async () => {
    const file = written(
      'data.json',
      '[{"image_file":"1.png","text":"A dog"},{"image_file":"sub/../2.png","text":""}]',
    );
    // printf '[["1.png","A dog"],["2.png",""]]' | sha256sum
    expect((await openJson(file)).fingerprint).toBe(
      '7203e8a648560995321f4bb23f8862e420917a78cc551dfe35540a159b25bab8',
    );
  });

  it('says where broken JSON breaks', async () => {
    const { message } = await errorOf(
      '[\n{"image_file": "1.png", "text": "A"}\n{"image_file": "2.png", "text": "B"}\n]',
    );
    expect(message).toMatch(/breaks at 3:1, near: .*"2\.png"/);
  });

  it('refuses what is no list of rows', async () => {
    expect((await errorOf('{"image_file": "1.png"}')).message).toMatch(
      /array of rows .* but received {"image_file":"1.png"}/,
    );
  });

  it('refuses another encoding instead of replacing its letters', async () => {
    const latin1 = Buffer.from('[{"image_file": "1.png", "text": "caf\xe9"}]', 'latin1');
    expect((await errorOf(latin1)).message).toMatch(/UTF-8/);
  });
});

describe('openJsonLines', () => {
  it('passes over blank lines, and needs no line end at the end', async () => {
    const file = written(
      'data.jsonl',
      '{"image_file":"1.png","text":"A"}\n\n{"image_file":"2.png","text":"B"}',
    );
    expect([...(await openJsonLines(file)).rows].flatMap(({ captions }) => captions)).toEqual(['A', 'B']);
  });

  it('reads lines that lie across the chunks of the file', async () => {
    const rows = Array.from({ length: 3000 }, (_, i) => ({
      image_file: `${i}.png`,
      text: `ü${'x'.repeat(i % 97)}`,
    }));
    const read = await openJsonLines(written('data.jsonl', lines(rows)));
    expect([...read.rows].map(({ captions }) => captions[0])).toEqual(rows.map(({ text }) => text));
  });

  it('says in which line JSON breaks, or another encoding is', async () => {
    const good = '{"image_file":"1.png","text":"A"}\n';
    expect((await errorOf(`${good}${good}{"image_file" "1.png"}\n`, 'data.jsonl')).message).toMatch(
      /breaks at 3:15, near/,
    );
    const latin1 = Buffer.from(`${good}{"text":"caf\xe9"}`, 'latin1');
    expect((await errorOf(latin1, 'data.jsonl')).message).toMatch(/UTF-8 at .*data\.jsonl:2\./);
  });

  it('takes file_name where it is metadata.jsonl', async () => {
    const file = written('metadata.jsonl', lines([{ file_name: 'a/1.png', text: 'A', image_file: 'no' }]));
    const { rows, description } = await openJsonLines(file, dir, 'file_name');
    expect(rows.at(0)!.image.file).toBe(join(dir, 'a', '1.png'));
    expect(description).toContain('ImageFolder');
    await expect(openJsonLines(file, dir)).resolves.toBeDefined();
    const wrong = written('metadata.jsonl', lines([{ image_file: '1.png', text: 'A' }]));
    await expect(openJsonLines(wrong, dir, 'file_name')).rejects.toThrow(/"file_name" is missing/);
  });
});
