import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parquetOf } from '../../test/write-parquet.js';
import { tarOf } from '../../test/write-tar.js';
import { ConfigError, DatasetError } from '../base/errors.js';
import { ImageProcessor } from '../images/image-processor.js';
import { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import { type Batch, DataLoader } from './data-loader.js';
import type { Rows } from './dataset.js';
import { type DatasetOptions, openDataset } from './open-dataset.js';

const COUNT = 13;

let dir: string;
const at = (...names: string[]): string => join(dir, ...names);
const nameOf = (i: number) => String(i).padStart(2, '0');
const captionOf = (i: number) => 'a '.repeat(i % 5).trim();
const severalOf = (i: number) => (i % 3 === 0 ? [captionOf(i)] : ['a', 'a a', 'a a a'].slice(i % 2));
const images: Buffer[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-open-'));
  const [bos, eos] = ['<|startoftext|>', '<|endoftext|>'];
  writeFileSync(at('vocab.json'), JSON.stringify({ a: 0, 'a</w>': 1, [bos]: 2, [eos]: 3 }));
  writeFileSync(at('merges.txt'), '#version: 0.2\n');
  writeFileSync(at('tokenizer_config.json'), JSON.stringify({ model_max_length: 6 }));
  for (let i = 0; i <= COUNT; i++) {
    const raw = { width: 8, height: 6, channels: 3 as const };
    const pixels = Uint8Array.from({ length: 8 * 6 * 3 }, (_, p) => (i * 31 + p * p) % 256);
    images.push(await sharp(pixels, { raw }).png().toBuffer());
  }
  const indices = Array.from({ length: COUNT }, (_, i) => i);
  const put = (name: string, content: string | Buffer): void => {
    mkdirSync(join(at(name), '..'), { recursive: true });
    writeFileSync(at(name), content);
  };
  images.forEach((image, i) => {
    put(`images/${nameOf(i)}.png`, image);
  });
  const lines = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join('\n');

  // One caption each, every row its own prompt.
  const plain = indices.map((i) => ({ image_file: `${nameOf(i)}.png`, text: captionOf(i) }));
  put('plain.json', JSON.stringify(plain));
  put('images/plain.jsonl', lines(plain));
  for (const i of indices) {
    put(`hub/images/${nameOf(i)}.png`, images[i]!);
    const folder = i < 6 ? 'folder/first' : 'folder/second';
    put(`${folder}/${nameOf(i)}.png`, images[i]!);
    put(`${folder}/${nameOf(i)}.txt`, `${captionOf(i)}\n`);
  }
  put(
    'hub/metadata.jsonl',
    lines(plain.map(({ image_file, text }) => ({ file_name: `images/${image_file}`, text }))),
  );
  const members = indices.flatMap((i) => [
    [`${nameOf(i)}.png`, images[i]!] as const,
    [`${nameOf(i)}.txt`, captionOf(i)] as const,
  ]);
  put('whole.tar', await tarOf(members));
  put('shards/a-00.tar', await tarOf(members.slice(0, 10)));
  put('shards/a-01.tar', await tarOf(members.slice(10)));
  const parquetRows = indices.map((i) => ({ image: { bytes: images[i]! }, text: captionOf(i) }));
  put('parquet/data/0.parquet', parquetOf([parquetRows.slice(0, 4), parquetRows.slice(4, 7)], 'snappy'));
  put('parquet/data/1.parquet', parquetOf([parquetRows.slice(7)]));
  put('parquet/.cache/2.parquet', 'hidden');

  // Several captions, and the next row's image as prompt.
  const rich = plain.map(({ image_file }, i) => ({
    image_file,
    text: severalOf(i),
    prompt_image_file: `${nameOf(i + 1)}.png`,
  }));
  put('rich.json', JSON.stringify(rich));
  put('images/rich.jsonl', lines(rich));
  const richMembers = indices.flatMap((i) => [
    [`${nameOf(i)}.json`, JSON.stringify({ text: severalOf(i) })] as const,
    [`${nameOf(i)}.png`, images[i]!] as const,
    [`${nameOf(i)}.prompt.png`, images[i + 1]!] as const,
  ]);
  put('rich.tar', await tarOf(richMembers));
  const richParquet = parquetRows.map(({ image }, i) => ({
    image,
    text: severalOf(i),
    prompt: { bytes: images[i + 1]! },
  }));
  put('rich.parquet', parquetOf([richParquet.slice(0, 5), richParquet.slice(5)], 'zstd'));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** All batches of three epochs. */
async function batchesOf(rows: Rows): Promise<Batch[]> {
  const loader = new DataLoader({
    ...{ rows, resolution: 6, batchSize: 4, prefetch: 2, seed: 5 },
    tokenizer: ClipTokenizer.load(dir),
    imageProcessor: ImageProcessor.load(dir, 4),
  });
  const batches: Batch[] = [];
  for (let epoch = 0; epoch < 3; epoch++)
    for await (const batch of loader.batches(epoch)) batches.push(batch);
  expect(loader.badRows.size).toBe(0);
  return batches;
}

describe('the same 13 rows', () => {
  let plain: Batch[];
  let rich: Batch[];
  const ofJson = async (file: string) =>
    batchesOf((await openDataset({ dataset: at(file), datasetRoot: at('images') })).rows);
  beforeAll(async () => {
    plain = await ofJson('plain.json');
    rich = await ofJson('rich.json');
    expect(plain.flatMap(({ rows }) => rows)).toHaveLength(3 * COUNT);
    expect(rich).not.toEqual(plain);
    expect(rich.map(({ rows }) => rows)).toEqual(plain.map(({ rows }) => rows));
  });

  it.each([
    ['JSON', () => ({ dataset: at('plain.json'), datasetRoot: at('images') }), /^JSON: 13 rows/],
    [
      'JSON Lines beside the images',
      () => ({ dataset: at('images', 'plain.jsonl') }),
      /^JSON Lines: 13 rows/,
    ],
    ['ImageFolder', () => ({ dataset: at('hub') }), /^ImageFolder: 13 rows/],
    ['a folder with .txt', () => ({ dataset: at('folder') }), /^Folder: 13 images/],
    ['a tar', () => ({ dataset: at('whole.tar') }), /^WebDataset: 1 shard, 13 samples$/],
    [
      'shards in braces',
      () => ({ dataset: at('shards', 'a-{00..01}.tar') }),
      /^WebDataset: 2 shards, 13 samples$/,
    ],
    ['a folder of shards', () => ({ dataset: at('shards') }), /^WebDataset: 2 shards, 13 samples$/],
    ['a folder of Parquet', () => ({ dataset: at('parquet') }), /^Parquet: 2 files, 13 rows$/],
    [
      'Parquet in braces',
      () => ({ dataset: at('parquet', 'data', '{0..1}.parquet') }),
      /^Parquet: 2 files, 13 rows$/,
    ],
  ] as [string, () => DatasetOptions, RegExp][])(
    'from %s give the same batches',
    async (_, options, told) => {
      const messages: string[] = [];
      const { rows } = await openDataset(options(), { onMessage: (message) => messages.push(message) });
      expect(messages).toHaveLength(1);
      expect(messages[0]).toMatch(told);
      expect(await batchesOf(rows)).toEqual(plain);
    },
  );

  it('from standard input give the same batches, and so does the file that is kept of it', async () => {
    const outputDir = at('out', 'run');
    const messages: string[] = [];
    const hooks = { outputDir, onMessage: (message: string) => messages.push(message) };
    const joined = ['a-00.tar', 'a-01.tar'].map((name) => readFileSync(at('shards', name)));
    const piped = await openDataset({ dataset: '-' }, { ...hooks, stdin: Readable.from(joined) });
    expect(await batchesOf(piped.rows)).toEqual(plain);
    expect(readdirSync(outputDir)).toEqual(['dataset.tar']);
    const kept = join(outputDir, 'dataset.tar');
    expect(messages[0]).toBe(
      `Saving standard input to ${kept}: training shuffles the rows and reads them in every epoch`,
    );
    expect(messages[1]).toMatch(/0\.00 GB in total; use --dataset .*dataset\.tar from now on/);
    const again = await openDataset({ dataset: kept });
    expect(again.fingerprint).toBe(piped.fingerprint);
    expect(await batchesOf(again.rows)).toEqual(plain);
  });

  it.each([
    ['JSON Lines', 'images/rich.jsonl'],
    ['a tar', 'rich.tar'],
    ['Parquet', 'rich.parquet'],
  ])('with several captions and other prompt images from %s as well', async (_, file) => {
    const { rows } = await openDataset({ dataset: at(file) });
    expect(await batchesOf(rows)).toEqual(rich);
  });
});

describe('openDataset', () => {
  const fails = async (options: DatasetOptions, kind: new (message: string) => Error, message: RegExp) => {
    const error = await openDataset(options).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  };

  it('joins the rows of several, and knows another order from this one', async () => {
    const [first, second] = [at('whole.tar'), at('plain.json')];
    const alone = [
      await openDataset({ dataset: first }),
      await openDataset({ dataset: second, datasetRoot: at('images') }),
    ];
    const joined = await openDataset({ dataset: [first, first] });
    const rows = [...(alone[0]?.rows ?? [])];
    expect(joined.rows.length).toBe(2 * rows.length);
    expect([...joined.rows].map(({ image, captions }) => [image.name, captions])).toEqual(
      [...rows, ...rows].map(({ image, captions }) => [image.name, captions]),
    );
    expect(joined.rows.at(2 * rows.length)).toBeUndefined();
    const prints = [...alone, joined].map(({ fingerprint }) => fingerprint);
    expect(new Set(prints).size).toBe(3);
    expect((await openDataset({ dataset: [first] })).fingerprint).toBe(prints[0]);
    expect(joined.description).toContain('; ');
  });

  it('is in shards where one of several is; another one of them is one shard', async () => {
    const shardsOf = async (...dataset: string[]) => (await openDataset({ dataset })).shards;
    expect(await shardsOf(at('shards'))).toEqual([5, 8]);
    const json = at('images', 'plain.jsonl');
    expect(await shardsOf(at('whole.tar'), json, at('shards'))).toEqual([13, 13, 5, 8]);
    expect(await shardsOf(json, json)).toBeUndefined();
  });

  it('wants a root only where paths are relative to one', async () => {
    await fails({ dataset: at('whole.tar'), datasetRoot: dir }, ConfigError, /--dataset-root .* JSON/);
    await fails({ dataset: '-' }, ConfigError, /received -, which only train accepts/);
  });

  it('refuses what it cannot use, with the remedy', async () => {
    await fails({ dataset: at('absent') }, DatasetError, /absent but there is nothing/);
    await fails({ dataset: at('shards', 'a-{00..02}.tar') }, DatasetError, /a-02\.tar but there is nothing/);
    await fails({ dataset: 's3://bucket/x.tar' }, DatasetError, /download it first, or pipe a tar/);
    writeFileSync(at('a.tar.gz'), '');
    await fails({ dataset: at('a.tar.gz') }, DatasetError, /a\.tar\.gz, which is compressed.*gunzip/);
    await fails({ dataset: at('merges.txt') }, DatasetError, /received .*merges\.txt/);
  });

  it('refuses a folder of nothing, of several kinds, or with metadata.csv', async () => {
    mkdirSync(at('nothing'));
    await fails({ dataset: at('nothing') }, DatasetError, /received nothing/);
    mkdirSync(at('mixed'));
    cpSync(at('whole.tar'), at('mixed', 'a.tar'));
    cpSync(at('images', '00.png'), at('mixed', '00.png'));
    await fails({ dataset: at('mixed') }, DatasetError, /1 of kind image, 1 of kind tar/);
    mkdirSync(at('csv'));
    writeFileSync(at('csv', 'metadata.csv'), 'file_name,text\n');
    await fails({ dataset: at('csv') }, DatasetError, /write a line {"file_name"/);
  });

  it('counts and names images without a caption', async () => {
    await fails(
      { dataset: at('images') },
      DatasetError,
      /14 of 14 have none:.*00\.png.*and 9 more.*empty file/s,
    );
    mkdirSync(at('latin1'));
    cpSync(at('images', '00.png'), at('latin1', '00.png'));
    writeFileSync(at('latin1', '00.txt'), Buffer.from('caf\xe9', 'latin1'));
    await fails({ dataset: at('latin1') }, DatasetError, /UTF-8 in .*00\.txt/);
  });

  it('names incomplete samples, the first of many', async () => {
    const members = Array.from({ length: 10 }, (_, i) => [`${i}.png`, images[0]!] as const);
    writeFileSync(
      at('incomplete.tar'),
      await tarOf([...members, ['9.txt', 'a'], ['8.png', 'x'], ['8.txt', 'a']]),
    );
    const messages: string[] = [];
    const onMessage = (message: string) => messages.push(message);
    await expect(openDataset({ dataset: at('incomplete.tar') }, { onMessage })).rejects.toThrow(/9 of 11 /);
    writeFileSync(at('incomplete.tar'), await tarOf([...members.slice(2), ['9.txt', 'a']]));
    const { incomplete } = await openDataset({ dataset: at('incomplete.tar') }, { onMessage });
    expect(incomplete).toHaveLength(7);
    expect(messages).toHaveLength(7);
    expect(messages[1]).toMatch(/^Skipped .*incomplete\.tar\/2: it has no caption/);
    expect(messages[6]).toBe('Skipped 2 more; ip-adapter data check names them all');
  });

  it('refuses an empty or compressed standard input, and leaves nothing of it', async () => {
    const piped = (chunks: Buffer[], signal?: AbortSignal) =>
      openDataset({ dataset: '-' }, { outputDir: at('spool'), stdin: Readable.from(chunks), signal });
    await expect(piped([])).rejects.toThrow(/tar on standard input but received nothing/);
    await expect(piped([Buffer.from([0x1f, 0x8b, 8])])).rejects.toThrow(/it is gzip; pipe it through gunzip/);
    const reason = new Error('enough');
    await expect(piped([Buffer.alloc(512)], AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(readdirSync(at('spool'))).toEqual([]);
  });

  it('trains on a tar of 200 MB in the memory of some batches', async () => {
    // Each image has 5 MB behind its end, which take no room on the disk.
    const size = 5_000_000;
    const members = Array.from(
      { length: 40 },
      (_, i) =>
        [
          [`${i}.txt`, 'a'],
          [`${i}.png`, images[i % COUNT]!],
        ] as const,
    );
    const file = at('large.tar');
    writeFileSync(file, '');
    let end = 0;
    for (const [text, [name, image]] of members) {
      const small = await tarOf([text, [name, Buffer.concat([image], size)]]);
      // Up to where the padding of the image begins.
      writeFileSync(file, small.subarray(0, 1536 + image.length), { flag: 'a' });
      end += 1536 + Math.ceil(size / 512) * 512;
      truncateSync(file, end);
    }
    const { rows } = await openDataset({ dataset: file });
    expect(rows.length).toBe(40);
    const before = process.memoryUsage().arrayBuffers;
    const loader = new DataLoader({
      ...{ rows, resolution: 6, batchSize: 2, prefetch: 2, seed: 5 },
      tokenizer: ClipTokenizer.load(dir),
      imageProcessor: ImageProcessor.load(dir, 4),
    });
    let most = 0;
    let seen = 0;
    for await (const batch of loader.batches(0)) {
      seen += batch.rows.length;
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    expect([seen, loader.badRows.size]).toEqual([40, 0]);
    expect(most).toBeLessThan(100e6);
  });
});
