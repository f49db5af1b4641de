/** @file Masks in every form of dataset: the same bytes for the same row, and none where masks are not used. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FileServer } from '../../test/file-server.js';
import { parquetOf } from '../../test/write-parquet.js';
import { tarOf } from '../../test/write-tar.js';
import { openDataset } from './open-dataset.js';

let dir: string;
let server: FileServer;
const names = ['a', 'b', 'c'];
/** Row b has no mask. */
const hasMask = (name: string): boolean => name !== 'b';
const imageOf = (name: string): string => `image ${name}`;
const maskOf = (name: string): string => `mask ${name}`;
const forms: Record<string, string> = {};

function put(name: string, content: string | Uint8Array): string {
  const file = join(dir, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-masks-'));
  process.env.IP_ADAPTER_CACHE = join(dir, 'cache');
  for (const name of names) {
    for (const folder of ['json', 'metadata', 'folder']) put(`${folder}/${name}.jpg`, imageOf(name));
    put(`folder/${name}.txt`, `caption ${name}`);
    if (!hasMask(name)) continue;
    for (const folder of ['json', 'metadata']) put(`${folder}/masks/${name}.png`, maskOf(name));
    put(`folder/${name}.mask.png`, maskOf(name));
  }
  const rows = (key: string) =>
    names.map((name) => {
      const mask = hasMask(name) ? { mask_file: `masks/${name}.png` } : {};
      return { [key]: `${name}.jpg`, text: `caption ${name}`, ...mask };
    });
  const lines = (key: string): string =>
    rows(key)
      .map((row) => JSON.stringify(row))
      .join('\n');
  forms.json = put('json/data.json', JSON.stringify(rows('image_file')));
  forms.lines = put('json/data.jsonl', lines('image_file'));
  put('metadata/metadata.jsonl', lines('file_name'));
  [forms.metadata, forms.folder] = [join(dir, 'metadata'), join(dir, 'folder')];
  const tar = await tarOf(
    names.flatMap((name): [string, string][] => [
      [`${name}.jpg`, imageOf(name)],
      ...(hasMask(name) ? [[`${name}.mask.png`, maskOf(name)] as [string, string]] : []),
      [`${name}.txt`, `caption ${name}`],
    ]),
  );
  forms.tar = put('shard.tar', tar);
  server = new FileServer();
  const address = await server.start();
  server.files.set('/shard.tar', tar);
  forms.remote = `${address}/shard.tar`;
});
afterAll(() => {
  server.stop();
  delete process.env.IP_ADAPTER_CACHE;
  rmSync(dir, { recursive: true });
});

async function read(dataset: string, readMasks: boolean): Promise<[string, string | null][]> {
  const { rows, incomplete } = await openDataset({ dataset, readMasks });
  expect(incomplete).toEqual([]);
  const text = async (bytes: Promise<Uint8Array>): Promise<string> => Buffer.from(await bytes).toString();
  return Promise.all(
    [...rows].map(
      async ({ image, mask }): Promise<[string, string | null]> => [
        await text(image.read()),
        mask === undefined ? null : await text(mask.read()),
      ],
    ),
  );
}

describe('masks', () => {
  it.each(['json', 'lines', 'metadata', 'folder', 'tar', 'remote'])('%s', async (form) => {
    const without = names.map((name) => [imageOf(name), null]);
    const withMasks = names.map((name) => [imageOf(name), hasMask(name) ? maskOf(name) : null]);
    // First without, then with: what a listing of a remote shard has must not be taken for the other.
    expect(await read(forms[form] as string, false)).toEqual(without);
    expect(await read(forms[form] as string, true)).toEqual(withMasks);
    expect(await read(forms[form] as string, false)).toEqual(without);
  });

  it('are a column of Parquet, where every row needs one', async () => {
    const row = (name: string) => ({
      image: { bytes: Buffer.from(imageOf(name)) },
      text: name,
      ...(hasMask(name) && { mask: { bytes: Buffer.from(maskOf(name)) } }),
    });
    const complete = put('complete.parquet', parquetOf([[row('a'), row('c')]]));
    expect(await read(complete, true)).toEqual(['a', 'c'].map((name) => [imageOf(name), maskOf(name)]));
    expect(await read(complete, false)).toEqual(['a', 'c'].map((name) => [imageOf(name), null]));
    const incomplete = put('incomplete.parquet', parquetOf([names.map(row)]));
    await expect(read(incomplete, true)).rejects.toThrow(/every row needs a mask/);
  });

  it('decide what a resumed run is compared with', async () => {
    const fingerprint = async (readMasks: boolean) =>
      (await openDataset({ dataset: forms.json as string, readMasks })).fingerprint;
    expect(await fingerprint(true)).not.toBe(await fingerprint(false));
  });

  it('are named where they are no path', async () => {
    const file = put('json/wrong.json', JSON.stringify([{ image_file: 'a.jpg', text: 'a', mask_file: 3 }]));
    await expect(openDataset({ dataset: file, readMasks: true })).rejects.toThrow(
      /"mask_file" is not a path/,
    );
  });
});
