/** @file The dataset browser with shards behind addresses, which it downloads within the limit of the cache. */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { FileServer } from '../file-server.js';
import { tarOf } from '../write-tar.js';

vi.setConfig({ testTimeout: 60_000 });

const ROWS = 4;
const SHARDS = 3;
let root: string;
let studio: Studio;
let server: FileServer;
let path: string;

async function shard(number: number): Promise<Buffer> {
  const members: [string, Buffer | string][] = [];
  for (let row = 0; row < ROWS; row++) {
    const side = 16 + 4 * number + row;
    const png = await sharp({ create: { width: side, height: side, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
    members.push([`${row}.png`, png], [`${row}.txt`, `row ${number} ${row}`]);
    members.push([`${row}.bin`, Buffer.alloc(100 * 1024)]);
  }
  return tarOf(members);
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'studio-remote-'));
  process.env.IP_ADAPTER_CACHE = join(root, 'cache');
  server = new FileServer();
  const address = await server.start();
  for (let i = 0; i < SHARDS; i++) server.files.set(`/00${i}.tar`, await shard(i));
  path = `${address}/{000..00${SHARDS - 1}}.tar`;
  // Room for two of the three shards.
  const shardCacheSize = (2.5 * (server.files.get('/000.tar') as Buffer).length) / 1e9;
  studio = await startStudio(
    studioOptionsSchema.parse({ runs: join(root, 'runs'), port: 0, shardCacheSize }),
    ['false'],
  );
});
afterAll(async () => {
  await studio.close();
  server.stop();
  delete process.env.IP_ADAPTER_CACHE;
  rmSync(root, { recursive: true });
});

function ask(address: string, query: object = {}, signal?: AbortSignal): Promise<Response> {
  const search = new URLSearchParams({ path, ...query });
  return fetch(`${studio.url.replace(/#.*/, '')}api/datasets${address}?${search}`, {
    headers: { Authorization: `Bearer ${studio.token}` },
    signal: signal ?? null,
  });
}
const sizeOfCache = (): number => {
  const folder = join(root, 'cache/shards');
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names
    .filter((name) => name.endsWith('.tar'))
    .reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
};

it('says what it downloads, answers others meanwhile, and stops when nobody waits', async () => {
  // Each shard takes ten seconds.
  server.delay = 400;
  const abort = new AbortController();
  const first = ask('/rows', {}, abort.signal);
  first.catch(() => {});
  await vi.waitFor(() => expect(server.requests.some((one) => one.startsWith('GET'))).toBe(true), {
    timeout: 20_000,
  });
  expect((await ask('')).status).toBe(200);
  abort.abort();
  await expect(first).rejects.toThrow('aborted');
  // The connection is closed, so no more comes in.
  const bytes = (): number => {
    const folder = join(root, 'cache/shards');
    return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  };
  let last = -1;
  await vi.waitFor(
    () => {
      const now = bytes();
      const isSame = now === last;
      last = now;
      expect(isSame).toBe(true);
    },
    { timeout: 20_000, interval: 1000 },
  );
  expect(sizeOfCache()).toBe(0);
  server.delay = 0;
});

it('shows rows and images within the limit of the cache, through faults of the server', async () => {
  server.errors.push(500, 503);
  server.cuts.push(50_000);
  const page = await ask('/rows', { text: 'row 2' });
  expect([page.status, await page.json()]).toMatchObject([
    200,
    { total: SHARDS * ROWS, matches: ROWS, rows: [{ index: 8, captions: ['row 2 0'] }, {}, {}, {}] },
  ]);
  for (const index of [0, 5, 10, 1]) {
    const image = await ask('/image', { index: String(index) });
    const { width } = await sharp(await image.arrayBuffer()).metadata();
    expect(width).toBe(16 + 4 * Math.floor(index / ROWS) + (index % ROWS));
    expect(sizeOfCache()).toBeLessThan(2.5 * (server.files.get('/000.tar') as Buffer).length);
  }
});

it('names what cannot be had, and opens it when it is there again', async () => {
  const folder = join(root, 'cache/shards');
  for (const name of readdirSync(folder)) if (name.endsWith('.tar')) rmSync(join(folder, name));
  server.refused.set('/001.tar', 404);
  const image = await ask('/image', { index: '5' });
  expect([image.status, await image.json()]).toEqual([
    422,
    { error: expect.stringMatching(/001\.tar .*HTTP 404/) },
  ]);
  server.refused.clear();
  expect((await ask('/image', { index: '5' })).status).toBe(200);
  expect((await ask('/rows', { path: path.replace('{', 'x{') })).status).toBe(422);
});
