/** @file Shards are listed by all processes together, each of which opens its own alone. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { openDataset } from '../../src/data/open-dataset.js';
import { ipAdapter } from '../e2e/command.js';
import { makeWorld } from '../e2e/world.js';
import { FileServer } from '../file-server.js';
import { tarOf } from '../write-tar.js';
import { byFile, type RankEnded, rankProgram, startRanks } from './ranks.js';
import { trainWords } from './runs.js';

/** More than two rounds of 16 for each of two processes, and an odd number in the last. */
const SHARDS = 71;
const names = Array.from({ length: SHARDS }, (_, i) => `${String(i).padStart(3, '0')}.tar`);
const shard = (number: number): Promise<Buffer> =>
  tarOf(
    Array.from({ length: number % 3 }, (_, row): [string, string][] => [
      [`${row}.jpg`, 'not decoded'],
      [`${row}.txt`, `Ünder "quotes" ${number} ${row}`],
    ]).flat(),
  );

function folderOf(files: readonly Buffer[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-listing-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [i, file] of files.entries()) writeFileSync(join(folder, names[i] as string), file);
  return folder;
}

function openTogether(datasets: readonly string[], caches: readonly string[] = []): Promise<RankEnded[]> {
  const environments = byFile(datasets.length).map((env, rank) => {
    return { ...env, DATASET: datasets[rank], SHARD_CACHE: caches[rank] ?? '' };
  });
  return Promise.all(startRanks([rankProgram, 'shards'], environments).map(({ ended }) => ended));
}

async function openAlone(dataset: string) {
  const { rows, fingerprint, shards } = await openDataset({ dataset });
  return { fingerprint, shards, captions: Array.from(rows, ({ captions }) => captions[0]) };
}

it('two processes, each of which can read its own shards alone, find what one finds', async () => {
  const files = await Promise.all(names.map((_, i) => shard(i)));
  const expected = await openAlone(folderOf(files));
  expect(expected.captions).toHaveLength(SHARDS - 1);
  const folders = [0, 1].map((rank) =>
    // Of the same size, but no tar.
    folderOf(files.map((file, i) => (i % 2 === rank ? file : Buffer.alloc(file.length, 'x')))),
  );
  for (const { out, err } of await openTogether(folders)) {
    expect(err).toBe('');
    expect(JSON.parse(out)).toEqual(expected);
  }
});

it('each downloads its own shards, and keeps what the other has listed', async () => {
  const files = await Promise.all(names.map((_, i) => shard(i)));
  const { captions, shards } = await openAlone(folderOf(files));
  const server = new FileServer();
  const address = await server.start();
  onTestFinished(() => server.stop());
  for (const [i, file] of files.entries()) server.files.set(`/${names[i]}`, file);
  const caches = [folderOf([]), folderOf([])];
  const dataset = `${address}/{000..${String(SHARDS - 1).padStart(3, '0')}}.tar`;
  for (const { out, err } of await openTogether([dataset, dataset], caches)) {
    expect(err).toBe('');
    expect(JSON.parse(out)).toMatchObject({ captions, shards });
  }
  const downloads = server.requests.filter((request) => request.startsWith('GET'));
  expect(downloads).toHaveLength(SHARDS);
  for (const [rank, cache] of caches.entries()) {
    const kept = readdirSync(join(cache, 'shards'));
    expect(kept.filter((name) => name.endsWith('.rows.json'))).toHaveLength(SHARDS);
    expect(kept.filter((name) => name.endsWith('.tar'))).toHaveLength(rank === 0 ? 36 : 35);
  }
});

it('names the shard that one of them cannot list, in both, and other numbers of shards', async () => {
  const files = await Promise.all([0, 1, 2].map(shard));
  const damaged = files.map((file, i) => (i === 1 ? Buffer.alloc(file.length, 'x') : file));
  for (const { code, err } of await openTogether([folderOf(damaged), folderOf(damaged)])) {
    expect(code).toBe(1);
    expect(err).toContain('001.tar');
  }
  for (const { code, err } of await openTogether([folderOf(files), folderOf(files.slice(1))])) {
    expect(code).toBe(1);
    expect(err).toContain('number of shards is 3 at rank 0 but 2 at rank 1');
  }
});

it('trains with shards that are listed together', async () => {
  const files = await Promise.all([0, 1, 2].map(shard));
  const world = await makeWorld(2);
  onTestFinished(() => rmSync(world.root, { recursive: true, force: true }));
  const words = (dataset: string): string[] =>
    trainWords(world, 'out', {
      data_json_file: undefined,
      data_root_path: undefined,
      dataset,
      rows: 2,
      train_batch_size: 1,
    });
  const datasets = [folderOf(files), folderOf(files.slice(1))];
  const ranks = byFile(2).flatMap((env, rank) =>
    startRanks([ipAdapter, ...words(datasets[rank] as string)], [env]),
  );
  for (const { code, err } of await Promise.all(ranks.map(({ ended }) => ended))) {
    expect(code).not.toBe(0);
    expect(err).toContain('number of shards is 3 at rank 0 but 2 at rank 1');
  }
});
