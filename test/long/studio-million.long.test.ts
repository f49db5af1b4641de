/** @file The dataset browser on a million rows: what it finds, and that the studio's own process stays small and answers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ipAdapter } from '../e2e/command.js';

const ROWS = 1_000_000;
let root: string;
let studio: ChildProcess;
let base: string;
let token: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'million-'));
  const out = createWriteStream(join(root, 'rows.jsonl'));
  for (let i = 0; i < ROWS; i++) {
    const text = i % 1000 === 7 ? '' : `row number ${i % 100_000 === 3 ? i + 1 : i}`;
    const row = { image_file: `${i}.png`, text, thing: i < 3 ? 'alone'.slice(0, i + 1) : Math.floor(i / 10) };
    if (!out.write(`${JSON.stringify(row)}\n`)) await once(out, 'drain');
  }
  out.end();
  await once(out, 'finish');
  studio = spawn(process.execPath, [ipAdapter, 'studio', '--runs', root, '--port', '0']);
  const [line] = (await once(studio.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  [base = '', token = ''] = String(line).trim().split('#token=');
});
afterAll(() => {
  studio.kill('SIGKILL');
  rmSync(root, { recursive: true });
});

interface Page {
  total: number;
  matches: number;
  rows: { index: number }[];
}

async function ask(address: string, query: object = {}): Promise<Page> {
  const search = new URLSearchParams({ path: join(root, 'rows.jsonl'), ...query });
  const response = await fetch(`${base}api/${address}?${search}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Page;
}
const rowsOf = (query: object): Promise<Page> => ask('datasets/rows', query);
const bytesOf = (): number =>
  1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${studio.pid}/status`, 'utf8'))?.[1]);

it('finds its rows, and answers meanwhile in little memory', async () => {
  const before = bytesOf();
  let isOpened = false;
  const first = rowsOf({ count: 1 }).finally(() => {
    isOpened = true;
  });
  let answered = 0;
  while (!isOpened) {
    await ask('runs');
    answered++;
  }
  expect(answered).toBeGreaterThan(3);
  expect(await first).toMatchObject({ total: ROWS, matches: ROWS, rows: [{ index: 0 }] });
  expect(await rowsOf({ from: ROWS - 2, count: 5 })).toMatchObject({
    rows: [{ index: ROWS - 2 }, { index: ROWS - 1 }],
  });
  expect(await rowsOf({ filter: 'no caption', from: 999 })).toMatchObject({
    matches: ROWS / 1000,
    rows: [{ index: ROWS - 993 }],
  });
  const pairs = await rowsOf({ filter: 'same caption', count: 4 });
  expect(pairs).toMatchObject({ matches: 20, rows: [3, 4, 100_003, 100_004].map((index) => ({ index })) });
  expect(await rowsOf({ text: 'NUMBER 999999' })).toMatchObject({ matches: 1, rows: [{ index: 999_999 }] });
  expect(await rowsOf({ filter: 'same file' })).toMatchObject({ matches: 0 });
  // Of the first ten rows, three have groups of their own.
  expect(await rowsOf({ groupBy: 'thing', filter: 'alone in its group' })).toMatchObject({
    matches: 3,
    rows: [{ index: 0 }, { index: 1 }, { index: 2 }],
  });
  expect(bytesOf() - before).toBeLessThan(96 * 2 ** 20);
});
