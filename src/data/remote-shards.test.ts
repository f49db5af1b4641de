import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileServer } from '../../test/file-server.js';
import { tarOf } from '../../test/write-tar.js';
import { DatasetError } from '../base/errors.js';
import { readImage } from '../images/image.js';
import type { Dataset } from './dataset.js';
import { openDataset } from './open-dataset.js';
import type { RemoteOptions } from './remote-shards.js';
import { openRemoteWebDataset, openWebDataset } from './webdataset.js';

const ROWS = 4;
let folder: string;
let server: FileServer;
let address: string;
let urls: string[];
let messages: string[];

/** A shard of some rows of noise, of about `kilobytes` each. */
async function shard(number: number, kilobytes = 1): Promise<Buffer> {
  const members: [string, Buffer | string][] = [];
  for (let row = 0; row < ROWS; row++) {
    const side = 4 + 4 * number + row;
    const pixels = Buffer.alloc(side * side * 3, 10 * number + row);
    const png = await sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
      .png()
      .toBuffer();
    members.push([`${number}${row}.png`, png], [`${number}${row}.txt`, `row ${number} ${row}`]);
    members.push([`${number}${row}.bin`, Buffer.alloc(kilobytes * 1024, row)]);
  }
  return tarOf(members);
}

const open = (options: RemoteOptions & { openShards?: number } = {}): Promise<Dataset> =>
  openRemoteWebDataset(urls, { pauseMs: 1, onMessage: (text) => messages.push(text), ...options });

async function sizesIn(dataset: Dataset): Promise<number[]> {
  const sizes: number[] = [];
  for (const { image } of dataset.rows) sizes.push((await readImage(image)).width);
  return sizes;
}
const all = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const inCache = (ending: string): string[] =>
  existsSync(join(folder, 'shards'))
    ? readdirSync(join(folder, 'shards')).filter((name) => name.endsWith(ending))
    : [];
const downloads = (): string[] => server.requests.filter((request) => request.startsWith('GET'));

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'remote-'));
  process.env.IP_ADAPTER_CACHE = folder;
  messages = [];
  server = new FileServer();
  address = await server.start();
  urls = [];
  for (let i = 0; i < 3; i++) {
    server.files.set(`/00${i}.tar`, await shard(i, 40));
    urls.push(`${address}/00${i}.tar`);
  }
});
afterEach(() => {
  server.stop();
  delete process.env.IP_ADAPTER_CACHE;
  rmSync(folder, { recursive: true });
});

describe('openRemoteWebDataset', () => {
  it('is the dataset of the same shards on a disk: rows, order of shards, fingerprint', async () => {
    const files = urls.map((url) => join(folder, url.slice(-7)));
    for (const file of files) writeFileSync(file, server.files.get(file.slice(folder.length))!);
    const [local, remote] = [await openWebDataset(files), await open()];
    expect(remote.fingerprint).toBe(local.fingerprint);
    expect(remote.shards).toEqual(local.shards);
    expect(Array.from(remote.rows, (row) => row.captions)).toEqual(
      Array.from(local.rows, (row) => row.captions),
    );
    expect(await sizesIn(remote)).toEqual(all);
  });

  it('downloads each shard once, and lists it without a download in the next run', async () => {
    await sizesIn(await open());
    expect(downloads()).toHaveLength(3);
    for (const name of inCache('.tar')) rmSync(join(folder, 'shards', name));
    server.requests.length = 0;
    const dataset = await open();
    expect(downloads()).toEqual([]);
    expect((await readImage(dataset.rows.at(5)!.image)).width).toBe(9);
    expect(downloads()).toEqual(['GET /001.tar bytes=0-']);
  });

  it('keeps within its limit, and downloads again what it has removed', async () => {
    const limit = 2.5 * server.files.get('/000.tar')!.length;
    const dataset = await open({ limit });
    for (let epoch = 0; epoch < 2; epoch++) {
      expect(await sizesIn(dataset)).toEqual(all);
      const bytes = inCache('.tar').map((name) => statSync(join(folder, 'shards', name)).size);
      expect(bytes.reduce((sum, size) => sum + size)).toBeLessThanOrEqual(limit);
    }
  });

  it('refuses a shard that is larger than the cache', async () => {
    await expect(open({ limit: 1000 })).rejects.toThrow(/000\.tar has .* GB; raise --shard-cache-size/);
  });

  it('continues where connections are cut, and tries again after errors of the server', async () => {
    server.errors.push(500, 503, 429);
    server.cuts.push(50_000, 20_000);
    expect(await sizesIn(await open())).toEqual(all);
    expect(downloads().some((request) => /bytes=[1-9]\d+-$/.test(request))).toBe(true);
  });

  it('reads from a server without ranges, without HEAD, behind redirects, slowly', async () => {
    server.hasRanges = false;
    server.cuts.push(50_000);
    server.redirects.set('/x/000.tar', '/000.tar');
    urls[0] = `${address}/x/000.tar`;
    server.delay = 2;
    expect(await sizesIn(await open())).toEqual(all);
    rmSync(join(folder, 'shards'), { recursive: true });
    server.hasRanges = true;
    server.hasHead = false;
    expect(await sizesIn(await open())).toEqual(all);
  });

  it('names the shard that is missing, forbidden, of unknown length, or cut for good', async () => {
    server.refused.set('/001.tar', 403);
    await expect(open()).rejects.toThrow(/001\.tar .*HTTP 403/);
    server.refused.set('/001.tar', 404);
    await expect(open()).rejects.toThrow(/001\.tar .*HTTP 404: there is no such file/);
    server.refused.clear();
    server.hasLength = false;
    await expect(open()).rejects.toThrow('Expected the length of');
    server.hasLength = true;
    server.refused.set('/002.tar', 500);
    await expect(open()).rejects.toThrow(/002\.tar but its server cannot be reached: HTTP 500/);
    expect(
      messages.filter((text) => /^No answer for .*002\.tar: HTTP 500; trying again/.test(text)),
    ).toHaveLength(6);
    server.refused.clear();
    server.cuts.push(...Array.from({ length: 40 }, () => 0));
    await expect(open()).rejects.toThrow(
      /Expected \d+ bytes of .*tar from its server but the connection broke/,
    );
    expect(await open().catch((error) => error)).not.toBeInstanceOf(TypeError);
  });

  it('refuses a shard that changes during the run, by name, and not as a bad row', async () => {
    const dataset = await open();
    for (const name of inCache('.tar')) rmSync(join(folder, 'shards', name));
    server.files.set('/002.tar', await shard(2, 41));
    const reading = readImage(dataset.rows.at(9)!.image);
    await expect(reading).rejects.toThrow(/002\.tar as it was at the start of the run but it has changed/);
    await expect(reading).rejects.toBeInstanceOf(DatasetError);
    await expect(reading).rejects.not.toHaveProperty('reason');
    // The same size, another content.
    const changed = Buffer.from(await shard(1, 40));
    changed[changed.length - 3000]! ^= 1;
    server.files.set('/001.tar', changed);
    await expect(readImage((await open({ limit: 1e9 })).rows.at(0)!.image)).resolves.toBeDefined();
    expect(messages.join('\n')).toMatch(/001\.tar has changed since it was last used/);
  });

  it('stops when the signal is aborted, and continues later', async () => {
    const abort = new AbortController();
    server.delay = 30;
    const timer = setInterval(() => {
      const partial = inCache('.incomplete').map((name) => join(folder, 'shards', name));
      if (partial.some((path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0))
        abort.abort(new Error('Ctrl-C'));
    }, 5);
    await expect(open({ signal: abort.signal })).rejects.toThrow('Ctrl-C');
    clearInterval(timer);
    expect(inCache('.tar')).toEqual([]);
    server.delay = 0;
    expect(await sizesIn(await open())).toEqual(all);
    expect(downloads().some((request) => /bytes=[1-9]\d+-$/.test(request))).toBe(true);
  });

  it('lets several readers share one download', async () => {
    server.delay = 1;
    const datasets = await Promise.all([open(), open(), open()]);
    for (const dataset of datasets) expect(await sizesIn(dataset)).toEqual(all);
    expect(downloads()).toHaveLength(3);
  });
});

describe('openDataset', () => {
  it('takes an address with a range, and a list file of addresses or paths', async () => {
    expect((await openDataset({ dataset: `${address}/{000..002}.tar` })).rows.length).toBe(12);
    const list = join(folder, 'shards.txt');
    writeFileSync(list, `# the first two\n${urls[0]}\n\n${urls[1]}\n`);
    expect((await openDataset({ dataset: list })).rows.length).toBe(8);
    writeFileSync(join(folder, 'a.tar'), server.files.get('/000.tar')!);
    writeFileSync(list, 'a.tar\n');
    expect((await openDataset({ dataset: list })).rows.length).toBe(4);
    writeFileSync(list, `a.tar\n${urls[1]}\n`);
    await expect(openDataset({ dataset: list })).rejects.toThrow('addresses alone or paths alone');
    await expect(openDataset({ dataset: `${address}/images.zip` })).rejects.toThrow(
      'Expected the address of a tar',
    );
  });

  it('reads hf:// names from the Hub, with the token in HF_TOKEN', async () => {
    const saved = { ...process.env };
    Object.assign(process.env, { HF_ENDPOINT: address, HF_TOKEN: 'hf_secret' });
    try {
      server.token = 'hf_secret';
      server.files.set('/datasets/org/name/resolve/main/a/000.tar', await shard(0));
      expect((await openDataset({ dataset: 'hf://datasets/org/name/a/000.tar' })).rows.length).toBe(4);
      process.env.HF_TOKEN = 'hf_other';
      await expect(openDataset({ dataset: 'hf://datasets/org/name@v2/a/000.tar' })).rejects.toThrow(
        /HTTP 401.*HF_TOKEN/,
      );
      await expect(openDataset({ dataset: 'hf://org/name/a.tar' })).rejects.toThrow(
        'Expected hf://datasets/',
      );
    } finally {
      process.env = saved;
    }
  });
});
