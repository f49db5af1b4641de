import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  COUNT,
  collect,
  createLoaderDataset,
  type LoaderDataset,
  rowsOf,
} from '../../test/loader-dataset.js';
import { floatsOf } from '../../test/pixel-floats.js';
import { DatasetError } from '../base/errors.js';
import type { ImageProcessor } from '../images/image-processor.js';
import { fileSource } from '../images/image-source.js';
import { captionFor, dropFor, shuffledIndices } from './sampling.js';

let dir: string;
let imageProcessor: ImageProcessor;
let fileOf: LoaderDataset['fileOf'];
let loader: LoaderDataset['loader'];
let remove: LoaderDataset['remove'];

beforeAll(async () => {
  ({ dir, imageProcessor, fileOf, loader, remove } = await createLoaderDataset());
});
afterAll(() => remove());

describe('DataLoader', () => {
  it('yields every row once, in the shuffled order, with the partial last batch', async () => {
    const batches = await collect(loader().batches(0));
    expect(rowsOf(batches)).toEqual([...shuffledIndices(5, 0, COUNT)]);
    expect(batches.map((batch) => batch.rows.length)).toEqual([4, 4, 4, 4, 4, 3]);
    expect(batches.map((batch) => batch.nextPosition)).toEqual([4, 8, 12, 16, 20, 23]);
    expect(batches.at(-1)!.pixelValues?.shape).toEqual([3, 3, 6, 6]);
  });

  it('fills a batch with the image, the CLIP image and the caption of each row, or what stands for a dropped one', async () => {
    const seen = { image: 0, text: 0 };
    for (let epoch = 0; epoch < 6; epoch++) {
      for (const batch of await collect(loader().batches(epoch))) {
        const { rows } = batch;
        const [pixels, clipPixels] = [floatsOf(batch.pixelValues), floatsOf(batch.clipPixelValues)];
        const inputIds = batch.inputIds!;
        expect(batch.epoch).toBe(epoch);
        expect(pixels).toHaveLength(rows.length * 3 * 36);
        expect(batch.clipPixelValues?.shape).toEqual([rows.length, 3, 4, 4]);
        expect(inputIds.shape).toEqual([rows.length, 6]);
        rows.forEach((row, i) => {
          const drop = dropFor(5, epoch, row);
          expect(batch.drops[i]).toEqual(drop);
          // The training image stays, whatever is dropped.
          expect(pixels[i * 108]).toBeCloseTo(((10 * row) / 255 - 0.5) / 0.5, 6);
          expect(pixels[i * 108 + 36]).toBeCloseTo((128 / 255 - 0.5) / 0.5, 6);
          const clip = clipPixels.subarray(i * 48, (i + 1) * 48);
          if (drop.dropImage) expect([...clip]).toEqual(new Array(48).fill(0));
          else expect(clip[0]).toBeCloseTo(((10 * row) / 255 - 0.48145466) / 0.26862954, 5);
          const ids = [...inputIds.data.subarray(i * 6, (i + 1) * 6)].map(Number);
          const words = drop.dropText ? 0 : row % 5;
          expect(ids).toEqual([2, ...new Array(words).fill(1), ...new Array(5 - words).fill(3)].slice(0, 6));
          seen.image += Number(drop.dropImage);
          seen.text += Number(drop.dropText);
        });
      }
    }
    expect(seen.image).toBeGreaterThan(0);
    expect(seen.text).toBeGreaterThan(0);
  });

  it('shows the prompt image to CLIP alone, reads the bytes of a source that is no file, and draws the caption', async () => {
    const rows = Array.from({ length: 12 }, (_, i) => ({
      image: fileSource(fileOf(i)),
      promptImage: { name: `member ${i}`, read: async () => readFileSync(fileOf(i + 1)) },
      captions: ['', 'a', 'a a'],
    }));
    const seen = new Set<string>();
    for (let epoch = 0; epoch < 4; epoch++) {
      const batches = await collect(loader({ rows }).batches(epoch));
      expect(rowsOf(batches)).toHaveLength(12);
      for (const { rows: indices, drops, captions, pixelValues, clipPixelValues, inputIds } of batches)
        indices.forEach((row, i) => {
          const { dropImage, dropText } = drops[i]!;
          expect(floatsOf(pixelValues)[i * 108]).toBeCloseTo(((10 * row) / 255 - 0.5) / 0.5, 6);
          const clip = dropImage ? 0 : ((10 * (row + 1)) / 255 - 0.48145466) / 0.26862954;
          expect(floatsOf(clipPixelValues)[i * 48]).toBeCloseTo(clip, 5);
          const words = dropText ? 0 : captionFor(5, epoch, row, 3);
          expect(captions[i]).toBe(['', 'a', 'a a'][words]);
          const ids = [...inputIds!.data.subarray(i * 6, (i + 1) * 6)].map(Number);
          expect(ids.filter((id) => id === 1)).toHaveLength(words);
          seen.add(captions[i]!);
        });
    }
    expect([...seen].sort()).toEqual(['', 'a', 'a a']);
  });

  it('skips a row whose prompt image cannot be read, whether it is dropped or not', async () => {
    const rows = Array.from({ length: 40 }, (_, i) => ({
      image: fileSource(fileOf(i % COUNT)),
      promptImage: fileSource(i % 10 === 0 ? join(dir, `no-${i}.png`) : fileOf(i % COUNT)),
      captions: ['a'],
    }));
    const data = loader({ rows });
    await collect(data.batches(0));
    expect([...data.badRows.keys()].sort((a, b) => a - b)).toEqual([0, 10, 20, 30]);
    expect(data.badRows.get(20)).toEqual({ file: join(dir, 'no-20.png'), reason: 'the file is missing' });
  });

  it('goes on with the same batches from any position, bad rows or not', async () => {
    const order = shuffledIndices(5, 1, COUNT);
    const missing = {
      [order[2]!]: 'missing.png',
      [order[4]!]: 'missing.png',
      [order[COUNT - 1]!]: 'missing.png',
    };
    const whole = await collect(loader({}, missing).batches(1));
    expect(rowsOf(whole)).toEqual([...order].filter((row) => !(row in missing)));
    for (let k = 0; k < whole.length; k++) {
      const rest = await collect(loader({}, missing).batches(1, whole[k]!.nextPosition));
      expect(rest).toEqual(whole.slice(k + 1));
    }
  });

  it('does not depend on how far it reads ahead', async () => {
    const one = await collect(loader({ prefetch: 1 }).batches(2));
    expect(await collect(loader({ prefetch: 9 }).batches(2))).toEqual(one);
  });

  it('makes a batch smaller where rows are bad, and records each once', async () => {
    const truncated = join(dir, 'truncated.png');
    writeFileSync(truncated, readFileSync(fileOf(0)).subarray(0, -30));
    const noImage = join(dir, 'vocab.json');
    const missing = join(dir, 'missing.png');
    const data = loader({}, { 3: truncated, 8: noImage, 15: missing });
    for (let epoch = 0; epoch < 2; epoch++) {
      const batches = await collect(data.batches(epoch));
      expect(batches.map((batch) => batch.planned)).toEqual([4, 4, 4, 4, 4, 3]);
      const order = [...shuffledIndices(5, epoch, COUNT)];
      for (const [i, { rows }] of batches.entries())
        expect(rows).toEqual(order.slice(4 * i, 4 * i + 4).filter((row) => ![3, 8, 15].includes(row)));
    }
    expect([...data.badRows].sort(([a], [b]) => a - b)).toEqual([
      [3, { file: truncated, reason: expect.stringContaining('damaged or incomplete') }],
      [8, { file: noImage, reason: expect.stringContaining('it is not a JPEG') }],
      [15, { file: missing, reason: 'the file is missing' }],
    ]);
  });

  it('leaves a bad row out for the rest of the run, also where its file appears later', async () => {
    const late = join(dir, 'late.png');
    const data = loader({}, { 6: late });
    await collect(data.batches(0));
    writeFileSync(late, readFileSync(fileOf(6)));
    expect(rowsOf(await collect(data.batches(1)))).not.toContain(6);
    expect(rowsOf(await collect(loader({}, { 6: late }).batches(1)))).toContain(6);
  });

  it('bears eight bad rows and stops at the ninth', async () => {
    const bad = (n: number) =>
      Object.fromEntries(Array.from({ length: n }, (_, i) => [i, join(dir, `missing-${i}.png`)]));
    expect(rowsOf(await collect(loader({}, bad(8)).batches(0)))).toHaveLength(COUNT - 8);
    const error = await collect(loader({}, bad(9)).batches(0)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DatasetError);
    expect((error as Error).message).toMatch(/9 of 23 are bad so far \(at most 8 are skipped\)/);
    expect((error as Error).message).toMatch(/row \d: .*missing-\d\.png: the file is missing/);
    expect((error as Error).message).toContain('and 4 more');
  });

  it('bears a tenth of a large dataset', async () => {
    const bad = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [i, 'missing.png']));
    expect(rowsOf(await collect(loader({}, bad(12), 120).batches(0)))).toHaveLength(108);
    await expect(collect(loader({}, bad(13), 120).batches(0))).rejects.toThrow(/13 of 120 .*at most 12/);
  });

  it('refuses a dataset without any readable row, but not an empty rest of an epoch', async () => {
    const missing = { 0: 'missing.png', 1: 'missing.png' };
    await expect(collect(loader({}, missing, 2).batches(0))).rejects.toThrow(/none can be read/);
    const [rest, ...others] = await collect(loader({}, missing, 2).batches(0, 1));
    expect([rest?.planned, rest?.rows, others]).toEqual([1, [], []]);
    expect(await collect(loader().batches(0, COUNT))).toEqual([]);
  });

  it('reads no image where nothing is wanted of it', async () => {
    const captions = { inputs: ['inputIds'] } as const;
    const batches = await collect(loader(captions, { 3: 'missing.png' }).batches(0));
    expect(rowsOf(batches)).toEqual([...shuffledIndices(5, 0, COUNT)]);
    for (const { pixelValues, clipPixelValues, inputIds, rows } of batches)
      expect([pixelValues, clipPixelValues, inputIds?.shape[0]]).toEqual([null, null, rows.length]);
    const [one] = await collect(loader({ inputs: ['clipPixelValues'] }).batches(0));
    expect([one!.pixelValues, one!.clipPixelValues?.shape, one!.inputIds]).toEqual([
      null,
      [4, 3, 4, 4],
      null,
    ]);
  });

  it('leaves nothing running when the loop ends early', async () => {
    const before = sharp.counters();
    for await (const batch of loader({ prefetch: 5 }).batches(0)) {
      expect(batch.rows).toHaveLength(4);
      break;
    }
    expect(sharp.counters()).toEqual(before);
    expect(before).toEqual({ queue: 0, process: 0 });
  });

  it('passes on an error that is not the image’s, once it is that row’s turn', async () => {
    const broken = {
      ...imageProcessor,
      cropSize: 4,
      plan: () => raise(),
    } as unknown as ImageProcessor;
    const data = loader({ imageProcessor: broken });
    await expect(collect(data.batches(0))).rejects.toThrow('a defect');
    expect(data.badRows.size).toBe(0);
  });
});

function raise(): never {
  throw new Error('a defect');
}
