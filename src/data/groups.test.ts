import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect, createLoaderDataset, type LoaderDataset } from '../../test/loader-dataset.js';
import { floatsOf } from '../../test/pixel-floats.js';
import { parquetOf } from '../../test/write-parquet.js';
import { tarOf } from '../../test/write-tar.js';
import type { Dataset } from './dataset.js';
import { Groups } from './groups.js';
import { Mixture, portionsByWeight } from './mixture.js';
import { openDataset } from './open-dataset.js';
import { splitDataset } from './split.js';
import { trainRows } from './train-rows.js';

let data: LoaderDataset;
let dir: string;
beforeAll(async () => {
  data = await createLoaderDataset();
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-groups-'));
});
afterAll(() => {
  data.remove();
  rmSync(dir, { recursive: true });
});

const image = (name: string) => ({ name, read: async () => new Uint8Array() });

function datasetOf(groups: readonly (string | undefined)[], more: Partial<Dataset> = {}): Dataset {
  const rows = groups.map((group, i) => ({
    image: image(`${i}`),
    promptImage: image(`${i}`),
    captions: [''],
    group,
  }));
  return { rows, description: '', fingerprint: '', incomplete: [], leftOut: [], ...more };
}

describe('Groups', () => {
  const groups = new Groups(datasetOf(['a', 'b', 'a', undefined, 'a', 'c', 'b']));

  it('draws references from the other rows of the group, all of them alike', () => {
    const counts = new Map<number, number>();
    for (let epoch = 0; epoch < 400; epoch++) {
      const [reference = -1] = groups.referencesOf(2, { seed: 1, epoch, draw: 2, count: 1 });
      counts.set(reference, (counts.get(reference) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual([0, 4]);
    for (const count of counts.values()) expect(count).toBeGreaterThan(150);
  });

  it('draws distinct references as far as there are, and the row itself only where it is alone', () => {
    const of = (row: number, count: number) =>
      groups.referencesOf(row, { seed: 3, epoch: 5, draw: row, count });
    expect(of(0, 2).sort()).toEqual([2, 4]);
    expect(new Set(of(0, 4))).toEqual(new Set([2, 4]));
    expect(of(0, 4)).toHaveLength(4);
    expect(of(1, 1)).toEqual([6]);
    expect(of(5, 2)).toEqual([5, 5]);
    expect(of(3, 1)).toEqual([3]);
    expect(of(0, 2)).toEqual(of(0, 2));
  });

  it('counts the rows that are alone, and those without a group', () => {
    expect(groups.sizes).toEqual([3, 2]);
    expect([groups.alone, groups.ungrouped]).toEqual([1, 1]);
    expect(groups.describe()).toBe(
      'Groups: 2 of 5 rows, whose references are other rows of the group; 1 row is alone in a group and 1 row has no group: the reference is the image itself',
    );
    expect(() => new Groups(datasetOf(['a', undefined, 'b'])).describe()).toThrow(
      /no.*--group-by|--group-by/,
    );
  });

  it('lie in one dataset; and in one shard, where not all shards are open', () => {
    const of = (more: Partial<Dataset>, openShards = 0) =>
      new Groups(datasetOf(['a', 'a', 'a', 'a', 'a'], more), openShards).sizes;
    expect(of({})).toEqual([5]);
    expect(of({ parts: [2, 3] })).toEqual([2, 3]);
    expect(of({ shards: [2, 2, 1] }, 64)).toEqual([5]);
    expect(of({ shards: [2, 2, 1] }, 2)).toEqual([2, 2]);
    expect(of({ shards: [2, 2, 1], parts: [4, 1] }, 0)).toEqual([4]);
  });

  it('give held-out rows a reference of their group that stays the same', () => {
    const dataset = datasetOf(Array.from({ length: 12 }, (_, i) => `${i % 3}`));
    const { heldOut, train } = splitDataset(dataset, 4, 7, new Groups(dataset));
    expect(train.rows.length).toBe(8);
    for (const { image, promptImage } of heldOut) {
      expect(promptImage.name).not.toBe(image.name);
      expect(Number(promptImage.name) % 3).toBe(Number(image.name) % 3);
    }
  });
});

describe('groupBy', () => {
  const groupsIn = async (dataset: string, groupBy: string) =>
    Array.from((await openDataset({ dataset, groupBy: [groupBy] })).rows, ({ group }) => group);
  const written = (name: string, content: string | Buffer): string => {
    const file = join(dir, name);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, content);
    return file;
  };

  it('takes a column, the folder, or the prefix of the name in JSON, JSON Lines and ImageFolder', async () => {
    const rows = [
      { image_file: 'x/rex_01.png', text: 'a', group: 'one' },
      { image_file: 'x/rex_02.png', text: 'b', group: 2 },
      { image_file: 'y/tom-3.png', text: 'c' },
    ];
    const json = written('j/data.json', JSON.stringify(rows));
    const lines = written('j/data.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'));
    for (const file of [json, lines]) {
      expect(await groupsIn(file, 'group')).toEqual(['one', '2', undefined]);
      expect(await groupsIn(file, 'folder')).toEqual(['x', 'x', 'y']);
      expect(await groupsIn(file, 'prefix')).toEqual(['x/rex', 'x/rex', 'y/tom']);
    }
    written('i/metadata.jsonl', '{"file_name": "1.png", "text": "a", "who": "rex"}\n');
    expect(await groupsIn(join(dir, 'i'), 'who')).toEqual(['rex']);
    const wrong = written('j/wrong.json', JSON.stringify([{ ...rows[0], group: { a: 1 } }]));
    await expect(groupsIn(wrong, 'group')).rejects.toThrow(/"group" is not a text or a whole number/);
  });

  it('takes the folder or the prefix in folders, and no column', async () => {
    for (const name of ['f/rex/a_1', 'f/rex/a_2', 'f/tom/b_1']) {
      written(`${name}.png`, '');
      written(`${name}.txt`, 'caption');
    }
    expect(await groupsIn(join(dir, 'f'), 'folder')).toEqual(['rex', 'rex', 'tom']);
    expect(await groupsIn(join(dir, 'f'), 'prefix')).toEqual(['rex/a', 'rex/a', 'tom/b']);
    await expect(groupsIn(join(dir, 'f'), 'group')).rejects.toThrow(/has no columns; give folder or prefix/);
  });

  it('takes a column in Parquet, and no name', async () => {
    const row = (text: string) => ({ image: { bytes: Buffer.from('x') }, text });
    const file = written('groups.parquet', parquetOf([[row('rex'), row('tom'), row('rex')]]));
    expect(await groupsIn(file, 'text')).toEqual(['rex', 'tom', 'rex']);
    await expect(groupsIn(file, 'prefix')).rejects.toThrow(/no file names; give the name of a column/);
    await expect(groupsIn(file, 'who')).rejects.toThrow(/its columns are/);
  });

  it('takes the key, or a column of .json, in WebDatasets', async () => {
    const members = Object.entries({
      'x/rex_1.jpg': '',
      'x/rex_1.json': '{"text": "a", "who": "rex"}',
      'x/rex_2.jpg': '',
      'x/rex_2.txt': 'b',
      'x/rex_2.json': '{"who": "rex"}',
    });
    const file = written('groups.tar', await tarOf(members));
    expect(await groupsIn(file, 'who')).toEqual(['rex', 'rex']);
    expect(await groupsIn(file, 'prefix')).toEqual(['x/rex', 'x/rex']);
    expect(await groupsIn(file, 'folder')).toEqual(['x', 'x']);
  });

  it('is in the fingerprint', async () => {
    const of = async (group: string, groupBy?: string) => {
      const file = written('g.json', JSON.stringify([{ image_file: '1.png', text: 'a', group }]));
      return (await openDataset({ dataset: file, groupBy: groupBy === undefined ? undefined : [groupBy] }))
        .fingerprint;
    };
    expect(await of('a')).toBe(await of('b'));
    expect(await of('a', 'group')).not.toBe(await of('b', 'group'));
    expect(await of('a', 'none')).toBe(await of('a'));
  });
});

describe('the loader with groups', () => {
  it('reads the references of each row, several and others in each epoch, and none of the bad ones', async () => {
    const names = Array.from({ length: 12 }, (_, i) => `${i % 3}`);
    const groups = new Groups(datasetOf(names));
    const bad = 4;
    const loader = data.loader({ groups, referencesPerRow: 2 }, { [bad]: 'missing.png' }, 12);
    const epochs = [await collect(loader.batches(0)), await collect(loader.batches(1))];
    for (const batches of epochs)
      for (const { rows, references, clipPixelValues, drops } of batches) {
        expect(clipPixelValues?.shape).toEqual([2 * rows.length, 3, 4, 4]);
        const values = floatsOf(clipPixelValues);
        for (const [i, row] of rows.entries())
          for (const [k, reference] of references[i]!.entries()) {
            expect(reference.row % 3).toBe(row % 3);
            expect([row, bad]).not.toContain(reference.row);
            // The red channel tells which image it is.
            const red = values[(2 * i + k) * 48]!;
            const expected = (10 * reference.row) / 255;
            if (!drops[i]!.dropImage) expect(red).toBeCloseTo((expected - 0.48145466) / 0.26862954, 4);
          }
      }
    const used = (epoch: number) =>
      epochs[epoch]!.flatMap(({ rows, references }) =>
        rows.map((r, i) => [r, ...references[i]!.map(({ row }) => row)].join()),
      ).sort();
    expect(used(0)).not.toEqual(used(1));
    expect([...loader.badRows.keys()]).toEqual([bad]);
  });
});

describe('Mixture', () => {
  it('repeats datasets, and draws every repeat otherwise', async () => {
    const mixture = new Mixture(
      [
        { rows: 3, taken: 6 },
        { rows: 20, taken: 20 },
      ],
      5,
    );
    const of = async (share?: { rank: number; worldSize: number }, position = 0) =>
      collect(data.loader({ mixture, share, randomFlip: true }).batches(3, position));
    const whole = await of();
    const rows = whole.flatMap(({ rows }) => rows);
    expect(rows).toHaveLength(26);
    for (const row of [0, 1, 2]) expect(rows.filter((one) => one === row)).toHaveLength(2);
    for (const row of [3, 22]) expect(rows.filter((one) => one === row)).toHaveLength(1);
    const draws = Array.from({ length: 6 }, (_, i) => mixture.at(3, i));
    expect(new Set(draws.map(({ draw }) => draw)).size).toBe(6);
    // Resumed at any batch, and read by two processes, it is the same.
    const ranks = [await of({ rank: 0, worldSize: 2 }, 8), await of({ rank: 1, worldSize: 2 }, 8)];
    expect(ranks[0]!.flatMap((batch, i) => [...batch.rows, ...ranks[1]![i]!.rows])).toEqual(
      whole.slice(2).flatMap(({ rows }) => rows),
    );
  });

  it('takes shares by weight, all rows before one comes again, others in each epoch', () => {
    const portions = portionsByWeight([10, 30], [3, 1]);
    expect(portions).toEqual([
      { rows: 10, taken: 30 },
      { rows: 30, taken: 10 },
    ]);
    const mixture = new Mixture(portions, 1);
    expect(mixture.length).toBe(40);
    const rowsIn = (epoch: number) =>
      Array.from({ length: 40 }, (_, i) => mixture.at(epoch, i).row).sort((a, b) => a - b);
    expect(rowsIn(0).slice(0, 30)).toEqual(Array.from({ length: 30 }, (_, i) => Math.floor(i / 3)));
    expect(new Set(rowsIn(0).slice(30)).size).toBe(10);
    expect(rowsIn(0)).not.toEqual(rowsIn(1));
    expect(new Mixture(portions, 1).at(0, 35)).toEqual(mixture.at(0, 35));
  });

  it('repeats the shards of a dataset, and is refused with weights there', () => {
    const mixture = new Mixture(
      [
        { rows: 3, taken: 6 },
        { rows: 4, taken: 4 },
      ],
      5,
    );
    expect(mixture.shards([1, 2, 4])).toEqual([1, 2, 1, 2, 4]);
    const dataset = datasetOf(Array(7).fill(undefined), { shards: [1, 2, 4], parts: [3, 4] });
    expect(() => trainRows(dataset, { datasetWeights: [1, 2], openShards: 64 })).toThrow(/--open-shards 0/);
    expect(() => trainRows(dataset, { datasetWeights: [1, 2], buckets: true })).toThrow(/--buckets/);
    expect(() => trainRows(dataset, { datasetWeights: [1, 2], datasetRepeats: [1] })).toThrow(/give one/);
    expect(() => trainRows(dataset, { datasetRepeats: [1, 2, 3] })).toThrow(/3 values for 2 datasets/);
    expect(() => trainRows(dataset, { dropImage: [0.5], dropText: [0.6] })).toThrow(/sum is above 1/);
    expect(() => trainRows(dataset, { referencesPerRow: 2 })).toThrow(/without --group-by/);
  });

  it('drops by dataset', () => {
    const dataset = datasetOf(Array(7).fill(undefined), { parts: [3, 4] });
    const { dropRatesOf } = trainRows(dataset, { dropImage: [0, 1], dropText: [0], dropBoth: [0] });
    expect([2, 3].map((row) => dropRatesOf?.(row).image)).toEqual([0, 1]);
  });
});
