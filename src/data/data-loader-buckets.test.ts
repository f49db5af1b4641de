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
import type { Size } from '../base/rgb-image.js';
import { readImage } from '../images/image.js';
import type { ImageProcessor } from '../images/image-processor.js';
import { fileSource } from '../images/image-source.js';
import { mirror } from '../images/mirror.js';
import { PixelValues } from '../images/pixels.js';
import { TRAIN_PIXELS, trainCrop } from '../images/train-transform.js';
import { bucketedOrder, bucketSizes } from './buckets.js';
import type { Batch } from './data-loader.js';
import { flipFor } from './sampling.js';

let dir: string;
let imageProcessor: ImageProcessor;
let fileOf: LoaderDataset['fileOf'];
let loader: LoaderDataset['loader'];
let remove: LoaderDataset['remove'];

beforeAll(async () => {
  ({ dir, imageProcessor, fileOf, loader, remove } = await createLoaderDataset());
});
afterAll(() => remove());

describe('DataLoader with buckets', () => {
  const sizes = bucketSizes(16);
  const buckets = Array.from({ length: COUNT }, (_, row) => sizes[row % 3]!);
  const bucketed = (files: Record<number, string> = {}) => loader({ buckets }, files);
  const bucketOf = (batch: Batch): Size => buckets[batch.rows[0]!]!;

  it('yields every row once, each batch in one size, as many batches as it says', async () => {
    const data = bucketed();
    const batches = await collect(data.batches(0));
    expect(rowsOf(batches).sort((a, b) => a - b)).toEqual(Array.from({ length: COUNT }, (_, i) => i));
    expect(batches).toHaveLength(data.batchesPerEpoch);
    // 8, 8 and 7 rows of the three buckets, four a batch.
    expect(data.batchesPerEpoch).toBe(6);
    for (const batch of batches) {
      const { width, height } = bucketOf(batch);
      expect(batch.rows.every((row) => buckets[row] === bucketOf(batch))).toBe(true);
      expect(batch.pixelValues?.shape).toEqual([batch.rows.length, 3, height, width]);
      const values = floatsOf(batch.pixelValues);
      for (const [i, row] of batch.rows.entries()) {
        const crop = trainCrop(await readImage(fileSource(fileOf(row))), { width, height });
        const expected = floatsOf(new PixelValues([crop], TRAIN_PIXELS, crop));
        const { length } = expected;
        expect(values.subarray(i * length, (i + 1) * length)).toEqual(expected);
      }
    }
  });

  it('goes on with the same batches from any position, smaller by their bad rows', async () => {
    for (let epoch = 0; epoch < 4; epoch++) {
      const order = bucketedOrder(5, epoch, buckets, 4);
      const bad = [0, 3, 9, COUNT - 1].map((position) => order[position]!);
      const missing = Object.fromEntries(bad.map((row) => [row, 'missing.png']));
      const whole = await collect(bucketed(missing).batches(epoch));
      expect(rowsOf(whole)).toEqual([...order].filter((row) => !bad.includes(row)));
      const planned = await collect(bucketed().batches(epoch));
      for (const [i, { rows, size }] of whole.entries()) {
        expect(rows).toEqual(planned[i]?.rows.filter((row) => !bad.includes(row)));
        expect(size).toBe(bucketOf(planned[i]!));
      }
      for (let k = 0; k < whole.length; k++)
        expect(await collect(bucketed(missing).batches(epoch, whole[k]!.nextPosition))).toEqual(
          whole.slice(k + 1),
        );
    }
  });

  it('reads given samples one bucket after another', async () => {
    const drop = { dropImage: false, dropText: false };
    const samples = [4, 0, 1, 3, 6, 9, 12].map((row) => ({ row, drop, caption: '', flip: false }));
    const rows: (readonly number[])[] = [];
    for await (const examples of bucketed().read(samples, ['pixelValues'])) rows.push(examples.rows);
    expect(rows).toEqual([[4, 1], [0, 3, 6, 9], [12]]);
  });
});

describe('DataLoader with randomFlip', () => {
  it('mirrors the crops of both images of the rows that flipFor draws, and no others', async () => {
    const slope = join(dir, 'slope.png');
    const raw = { width: 8, height: 6, channels: 3 as const };
    await sharp(
      Uint8Array.from({ length: 8 * 6 * 3 }, (_, i) => i),
      { raw },
    ).toFile(slope);
    const files = Object.fromEntries(Array.from({ length: COUNT }, (_, i) => [i, slope]));
    const image = await readImage(fileSource(slope));
    const crop = trainCrop(image, { width: 6, height: 6 });
    const planes = (flip: boolean): Float32Array =>
      floatsOf(new PixelValues([flip ? mirror(crop) : crop], TRAIN_PIXELS, crop));
    const clipPlanes = (flip: boolean): Float32Array => {
      const clip = imageProcessor.crop(image);
      return floatsOf(imageProcessor.normalized([flip ? mirror(clip) : clip]));
    };
    let flipped = 0;
    for (const batch of await collect(loader({ randomFlip: true }, files).batches(2))) {
      for (const [i, row] of batch.rows.entries()) {
        const flip = flipFor(5, 2, row);
        flipped += Number(flip);
        expect(batch.flips[i]).toBe(flip);
        expect(floatsOf(batch.pixelValues).subarray(i * 108, (i + 1) * 108)).toEqual(planes(flip));
        const clip = floatsOf(batch.clipPixelValues).subarray(i * 48, (i + 1) * 48);
        expect(clip).toEqual(batch.drops[i]?.dropImage ? new Float32Array(48) : clipPlanes(flip));
      }
    }
    expect(flipped).toBeGreaterThan(5);
    expect(flipped).toBeLessThan(COUNT - 5);
    for (const { flips } of await collect(loader({}, files).batches(2)))
      expect(flips).toEqual(flips.map(() => false));
  });
});
