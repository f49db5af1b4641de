/** @file The dataset browser: rows, filters and images, of the studio's folders only, also of long lists. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible, assertShows } from '../page-assertions.js';
import { tarOf } from '../write-tar.js';
import { makeWorld, type World } from './world.js';

vi.setConfig({ testTimeout: 110_000, hookTimeout: 60_000 });
const MANY = 50_000;

let world: World;
let outside: string;
let studio: Studio;
let browser: Browser | undefined;
const at = (...parts: string[]): string => join(world.root, 'datasets', ...parts);

beforeAll(async () => {
  world = await makeWorld();
  outside = mkdtempSync(join(tmpdir(), 'outside-'));
  copyFileSync(join(world.root, 'images/0.png'), join(outside, 'secret.png'));
  for (const folder of ['small', 'many', 'linked', 'outside', 'masked', 'leads-out'])
    mkdirSync(at(folder), { recursive: true });
  for (let i = 0; i < 8; i++) copyFileSync(join(world.root, `images/${i}.png`), at('small', `${i}.png`));
  const rows = Array.from({ length: 8 }, (_, i) => ({
    image_file: `${i}.png`,
    text: i === 2 ? ' ' : `a picture ${'abcdefgh'[i]}`,
    ...(i === 5 ? { prompt_image_file: '6.png' } : {}),
  }));
  writeFileSync(at('small/data.json'), JSON.stringify(rows));
  copyFileSync(at('small/0.png'), at('many/0.png'));
  const line = (i: number): string =>
    JSON.stringify({ image_file: '0.png', text: i % 1000 === 7 ? `seven ${i}` : 'a row' });
  writeFileSync(at('many/rows.jsonl'), `${Array.from({ length: MANY }, (_, i) => line(i)).join('\n')}\n`);
  writeFileSync(
    at('outside/data.json'),
    JSON.stringify([{ image_file: join(outside, 'secret.png'), text: 'x' }]),
  );
  symlinkSync(join(outside, 'secret.png'), at('linked/0.png'));
  writeFileSync(at('linked/data.json'), JSON.stringify([{ image_file: '0.png', text: 'x' }]));
  for (const [i, name] of ['A_0', 'A_1', 'B_0'].entries()) {
    copyFileSync(at('small', `${i}.png`), at('masked', `${name}.png`));
    writeFileSync(at('masked', `${name}.txt`), i < 2 ? 'the same' : 'another');
  }
  const white = { create: { width: 40, height: 64, channels: 3, background: '#fff' } } as const;
  // The left half counts.
  const black = { r: 0, g: 0, b: 0 };
  await sharp(white).extend({ right: 40, background: black }).toFile(at('masked', 'A_0.mask.png'));
  // A list of shards, a folder's list, and a caption that lead out.
  writeFileSync(join(outside, 'metadata.jsonl'), '{"file_name": "0.png", "text": "secret words"}\n');
  writeFileSync(join(outside, '0.txt'), 'secret words');
  symlinkSync(join(outside, 'metadata.jsonl'), at('leads-out/metadata.jsonl'));
  for (const name of ['captions', 'shards']) mkdirSync(at(name));
  copyFileSync(at('small/0.png'), at('captions/0.png'));
  symlinkSync(join(outside, '0.txt'), at('captions/0.txt'));
  writeFileSync(
    join(outside, 'x.tar'),
    await tarOf([
      ['0.txt', 'secret words'],
      ['0.png', 'x'],
    ]),
  );
  writeFileSync(at('shards/list.txt'), `${join(outside, 'x.tar')}\n`);
  symlinkSync(join(outside, 'x.tar'), at('shards/000.tar'));
  const options = { runs: join(world.root, 'runs'), datasets: [at()], port: 0 };
  studio = await startStudio(studioOptionsSchema.parse(options), ['false']);
  if (chromiumPath !== undefined) browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  world.remove();
  rmSync(outside, { recursive: true });
});

function ask(address: string, query: Record<string, string | number> = {}): Promise<Response> {
  const search = new URLSearchParams(query as Record<string, string>);
  return fetch(`${studio.url.replace(/#.*/, '')}api/datasets${address}?${search}`, {
    headers: { Authorization: `Bearer ${studio.token}` },
  });
}
const rowsOf = async (
  query: Record<string, string | number>,
): Promise<{ matches: number; rows: { index: number }[] }> =>
  (await (await ask('/rows', query)).json()) as never;

it('finds the rows of a long list by filter and text, and answers others meanwhile', async () => {
  const path = at('many/rows.jsonl');
  const first = rowsOf({ path, count: 2 });
  expect((await ask('')).status).toBe(200);
  expect(await first).toMatchObject({ total: MANY, matches: MANY, rows: [{ index: 0 }, { index: 1 }] });
  expect(await rowsOf({ path, from: MANY - 1, count: 60 })).toMatchObject({ rows: [{ index: MANY - 1 }] });
  const sevens = await rowsOf({ path, text: 'SEVEN', from: 3, count: 2 });
  expect(sevens).toMatchObject({ matches: MANY / 1000, rows: [{ index: 3007 }, { index: 4007 }] });
  expect(await rowsOf({ path, filter: 'no caption' })).toMatchObject({ matches: 0, rows: [] });
});

it('shows no file outside of its folders', async () => {
  for (const path of [
    outside,
    join(outside, 'secret.png'),
    '/etc',
    at('..', '..'),
    'https://host.example/x.zip',
  ])
    expect((await ask('/rows', { path })).status, path).toBe(422);
  expect((await ask('/image', { path: at('small/data.json'), index: 0 })).status).toBe(200);
  // A list within the folders, and images that are not.
  for (const name of ['outside', 'linked']) {
    const path = at(name, 'data.json');
    expect(await rowsOf({ path })).toMatchObject({ matches: 1 });
    const image = await ask('/image', { path, index: 0 });
    expect([image.status, await image.json()]).toEqual([
      422,
      { error: expect.stringContaining("is not in the folders of the studio's datasets") },
    ]);
  }
  for (const path of [
    ...[at('leads-out'), at('captions'), at('shards'), at('shards/list.txt')],
    ...[at('shards/{000..000}.tar'), at('shards/000.tar')],
  ]) {
    const answer = await ask('/rows', { path });
    expect([answer.status, await answer.text()], path).toEqual([
      422,
      expect.stringMatching(/is not in .*--datasets|is not in the folders of the studio's datasets/),
    ]);
  }
  expect((await ask('/image', { path: at('small/data.json'), index: 8 })).status).toBe(422);
  expect((await ask('/rows', { path: at('small/0.png') })).status).toBe(422);
});

it('finds rows by mask, group, caption and file, and those that a check has found', async () => {
  const path = at('masked');
  const found = async (query: object): Promise<number[]> =>
    (await rowsOf({ path, ...query })).rows.map(({ index }) => index);
  expect(await found({ masks: 'true', filter: 'no mask' })).toEqual([1, 2]);
  expect(await found({ groupBy: 'prefix', filter: 'alone in its group' })).toEqual([2]);
  expect(await found({ groupBy: 'prefix', filter: 'grouped' })).toEqual([0, 1, 2]);
  expect(await found({ filter: 'same caption' })).toEqual([0, 1]);
  expect(await found({ filter: 'same file' })).toEqual([]);
  expect((await rowsOf({ path: at('many/rows.jsonl'), filter: 'same file' })).matches).toBe(MANY);
  for (const filter of ['no mask', 'grouped', 'alone in its group', 'cannot be read', 'same image'])
    expect((await ask('/rows', { path, filter })).status, filter).toBe(422);
  const mask = await ask('/image', { path, masks: 'true', index: 0, which: 'mask' });
  const { data } = await sharp(await mask.arrayBuffer())
    .raw()
    .toBuffer({ resolveWithObject: true });
  expect([data[0], data[79 * 3]]).toEqual([255, 0]);
  expect((await ask('/image', { path, masks: 'true', index: 1, which: 'mask' })).status).toBe(422);
});

it.skipIf(chromiumPath === undefined)('shows rows in the page', async () => {
  writeFileSync(at('small/7.png'), 'no image');
  const page = await (browser as Browser).newPage();
  await page.goto(studio.url);
  await page.getByRole('link', { name: 'Datasets' }).click();
  await page.getByLabel('Dataset', { exact: true }).fill(at('small/data.json'));
  await page.keyboard.press('Tab');
  await page.getByText('8 rows', { exact: true }).waitFor();
  await page.getByRole('img', { name: 'Reference of row 6' }).waitFor();
  const image = page.getByRole('img', { name: 'Image of row 4', exact: true });
  await image.waitFor();
  await assertShows(image, at('small/3.png'), true);
  await assertAccessible(page);
  await page.getByRole('button', { name: 'Check every image' }).click();
  await page.getByText('Images that cannot be read: 1').waitFor({ timeout: 60_000 });
  await page.getByLabel('Show', { exact: true }).selectOption('cannot be read');
  await page.getByText('1 of 8 rows').waitFor();
  await page.getByText(/^Expected an image in .*7\.png but/).waitFor();
  await assertAccessible(page);
  await page.getByLabel('Show', { exact: true }).selectOption('no caption');
  await page.getByText('1 of 8 rows').waitFor();
  await page.getByRole('img', { name: 'Image of row 3' }).waitFor();
  await page.getByLabel('Show', { exact: true }).selectOption('all');
  await page.getByLabel('Find in captions and names').fill('picture h');
  await page.keyboard.press('Enter');
  await vi.waitFor(async () => expect(await page.locator('.data-row').count()).toBe(1));
  await page.getByLabel('Dataset', { exact: true }).fill(at('masked'));
  await page.keyboard.press('Tab');
  await page.getByText('3 rows', { exact: true }).waitFor();
  await page.getByLabel('Masks').check();
  await page.getByRole('img', { name: 'Mask of row 1' }).waitFor();
  const { dominant } = await sharp(await page.locator('.masked').first().screenshot())
    .extract({ left: 90, top: 10, width: 10, height: 10 })
    .stats();
  expect(Math.max(dominant.r, dominant.g, dominant.b)).toBeLessThan(64);
});
