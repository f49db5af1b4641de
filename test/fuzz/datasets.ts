/** @file Hostile datasets: JSON and JSON Lines, tar headers with right checksums, Parquet footers and pages. */
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { pick, type Random } from '../../demo/world/random.js';
import { openDataset } from '../../src/data/open-dataset.js';
import { readImage } from '../../src/images/image.js';
import { type ParquetCodec, parquetOf } from '../write-parquet.js';
import { tarOf } from '../write-tar.js';
import { below, edgeNumbers, mutateBytes, overwrite, writeVarint } from './bytes.js';
import { mutateJson } from './json.js';
import type { Target } from './target.js';

/** Many rows, so that an error has many to tell of. */
const rows = [
  { image_file: '1.png', text: 'A dog' },
  { image_file: 'a/b.jpg', prompt_image_file: '2.png', text: ['', 'two'], extra: [1, 2.5, null, true] },
  ...Array.from({ length: 20 }, (_, i) => ({ image_file: `${i}.png`, text: `Ein schöner Tag "${i}" 😀` })),
];

/** Opens the dataset and decodes its first images, as the loader does. */
async function readAll(dataset: string): Promise<void> {
  const { rows } = await openDataset({ dataset });
  for (let i = 0; i < Math.min(rows.length, 4); i++) {
    const row = rows.at(i);
    if (row === undefined) continue;
    await readImage(row.image);
    await readImage(row.promptImage);
  }
}

export function jsonTarget(folder: string): Target {
  const file = join(folder, 'data.json');
  const texts = [JSON.stringify(rows), JSON.stringify(rows.slice(0, 2), null, 2)];
  return {
    file,
    make: (random) => mutateJson(texts, random),
    read: () => openDataset({ dataset: file }),
  };
}

export function jsonLinesTarget(folder: string): Target {
  const file = join(folder, 'data.jsonl');
  const lines = rows.map((row) => JSON.stringify(row));
  const make = (random: Random) => {
    const mutated = [...lines];
    for (let i = 1 + below(3, random); i > 0; i--)
      mutated[below(lines.length, random)] = mutateJson(lines, random).toString(
        pick(['utf8', 'latin1'], random),
      );
    const text = Buffer.from(mutated.join(pick(['\n', '\r\n', '\n\n'], random)));
    return random() < 0.2 ? mutateBytes([text], random) : text;
  };
  return { file, make, read: () => openDataset({ dataset: file }) };
}

const image = sharp({ create: { width: 4, height: 3, channels: 3, background: 'red' } })
  .png()
  .toBuffer();

/** Where a header's fields are (POSIX.1-2017 pax, "ustar Interchange Format"): name, mode, size, type, magic, prefix. */
const tarFields = [
  { at: 0, length: 100 },
  { at: 100, length: 8 },
  { at: 124, length: 12 },
  { at: 124, length: 12 },
  { at: 156, length: 1 },
  { at: 257, length: 8 },
  { at: 345, length: 155 },
];
const tarValues = [
  ...['', '0', '7', '777777777777', '-1', '-7777777', '99999999', '1e9', '0x10', ' 17 ', '\0', '\xff\xff'],
  ...['x', 'L', 'K', 'g', '1', '2', '5', 'ustar\0', 'ustar  \0', '../../x.png', 'a.png', 'a.txt', 'a.json'],
];

/** Changes fields of headers, and their checksums to match. */
function mutateTar(seeds: readonly Buffer[], random: Random): Buffer {
  const tar = Buffer.from(pick(seeds, random));
  const headers: number[] = [];
  for (let at = 0; at + 512 <= tar.length; at += 512)
    if (tar.toString('latin1', at + 257, at + 262) === 'ustar') headers.push(at);
  for (let i = 1 + below(2, random); i > 0; i--) {
    const header = pick(headers, random);
    const { at, length } = pick(tarFields, random);
    if (random() < 0.7)
      tar.write(pick(tarValues, random).padEnd(length, '\0'), header + at, length, 'latin1');
    else {
      // A number in bytes, as GNU tar has it.
      tar[header + at] = 0x80 | below(128, random);
      if (length >= 12) overwrite(tar, header + at + 4, 8, pick(edgeNumbers, random), 'BE');
    }
    tar.write('        ', header + 148, 'latin1');
    const sum = tar.subarray(header, header + 512).reduce((total, byte) => total + byte, 0);
    tar.write(`${sum.toString(8).padStart(6, '0')}\0 `, header + 148, 'latin1');
  }
  return tar;
}

/** Images, captions and what may lie beside them, by their names; `file` has the names. */
export function folderTarget(folder: string): Target {
  const file = join(folder, 'names.json');
  const root = join(folder, 'folder');
  const stems = [
    '1',
    '2',
    'a/1',
    'caf\u00e9',
    'cafe\u0301',
    '.x/1',
    '__MACOSX/1',
    '._1',
    '\u0000',
    'x'.repeat(300),
  ];
  const endings = [
    '.jpg',
    '.PNG',
    '.txt',
    '.TXT',
    '.gif',
    '.avif',
    '.heic',
    '.tar',
    '.parquet',
    '.tar.gz',
    '/x',
    '',
  ];
  const others = [
    'metadata.jsonl',
    'metadata.csv',
    'out/metrics.jsonl',
    'out/config.yaml',
    'out/1.png',
    'LOOP',
  ];
  const nameOf = (random: Random): string =>
    random() < 0.15 ? pick(others, random) : `${pick(stems, random)}${pick(endings, random)}`;
  const make = (random: Random): Buffer => {
    const some = Array.from({ length: 1 + below(8, random) }, () => nameOf(random));
    return Buffer.from(JSON.stringify(random() < 0.7 ? [...some, '1.jpg', '1.txt'] : some));
  };
  const put = (name: string): void => {
    const path = join(root, name);
    try {
      mkdirSync(dirname(path), { recursive: true });
      if (name === 'LOOP') symlinkSync(root, path);
      else writeFileSync(path, name);
    } catch {
      // A name that the system does not take, or that is there already.
    }
  };
  const read = async () => {
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root);
    for (const name of JSON.parse(readFileSync(file, 'utf8'))) put(name);
    await openDataset({ dataset: root });
  };
  return { file, make, read };
}

export async function tarTarget(folder: string): Promise<Target> {
  const png = await image;
  const file = join(folder, 'data.tar');
  const long = `${'long/'.repeat(30)}c`;
  const seeds = [
    await tarOf([
      ['a.png', png],
      ['a.txt', 'one\ntwo\n'],
      ['b.png', png],
      ['b.json', '{"caption": ["x", "y"]}'],
      ['b.prompt.png', png],
    ]),
    await tarOf([
      [`${long}.png`, png],
      [`${long}.txt`, 'a name that needs a pax header: é'],
    ]),
  ];
  const make = (random: Random) => (random() < 0.4 ? mutateBytes(seeds, random) : mutateTar(seeds, random));
  return { file, make, read: () => readAll(file) };
}

export async function parquetTarget(folder: string): Promise<Target> {
  const png = await image;
  const file = join(folder, 'data.parquet');
  const row = { image: { bytes: png, path: 'a.png' }, text: 'a red thing' };
  const listed = { ...row, prompt: { bytes: png }, text: ['x', 'y'] };
  const codecs: ParquetCodec[] = ['none', 'snappy', 'gzip', 'zstd'];
  const seeds = codecs.flatMap((codec) => [
    parquetOf([[row, row], [row]], codec),
    parquetOf([[listed], [listed]], codec),
  ]);
  const make = (random: Random) => {
    const kind = random();
    if (kind < 0.4) return mutateBytes(seeds, random);
    const seed = pick(seeds, random);
    const footerLength = seed.readUInt32LE(seed.length - 8);
    const footerStart = seed.length - 8 - footerLength;
    const [body, footer] = [seed.subarray(0, footerStart), seed.subarray(footerStart, -8)];
    // Numbers of values and bytes, and lengths of runs, are varints.
    const mutate = (part: Buffer): Buffer =>
      random() < 0.5 ? writeVarint(part, random) : mutateBytes([part], random);
    if (kind < 0.6) return Buffer.concat([mutate(body), seed.subarray(footerStart)]);
    const changed = mutate(footer);
    const end = Buffer.from(seed.subarray(-8));
    overwrite(end, 0, 4, kind < 0.95 ? BigInt(changed.length) : pick(edgeNumbers, random), 'LE');
    return Buffer.concat([body, changed, end]);
  };
  return { file, make, read: () => readAll(file) };
}
