import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, stretchImages, type World } from '../../test/e2e/world.js';
import { Recorder } from '../../test/recorder.js';
import { checkDataset } from './check-dataset.js';
import { factsOf } from './report-facts.js';

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);
const options = () => ({
  dataset: at('data.json'),
  datasetRoot: at('images'),
  resolution: 64,
  batchSize: 2,
});

beforeAll(async () => {
  world = await makeWorld(9);
  // Images 3 to 8 stay as they are, 80 × 64.
  await stretchImages(world, [
    [20, 30],
    [300, 100],
    [64, 63],
  ]);
  truncateSync(at('images', '4.png'), 60);
  writeFileSync(at('images', '5.png'), 'no image');
  copyFileSync(at('images', '3.png'), at('images', '8.png'));
  copyFileSync(at('images', '3.png'), at('images', '6.png'));
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8'));
  rows[0].text = '';
  rows[1].text = ' \t';
  rows[2].text = 'a '.repeat(75);
  rows[3].text = 'a '.repeat(76);
  writeFileSync(at('data.json'), JSON.stringify(rows));
});
afterAll(() => world.remove());

describe('checkDataset', () => {
  it('reads every image, and says what each row would be in training', async () => {
    const { progress, onEvent } = new Recorder();
    const { readSeconds, rowsPerSecond, ...report } = await checkDataset(
      { ...options(), buckets: true, model: at('model') },
      { onEvent },
    );
    expect(progress).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9].map((done) => [done, 9]));
    expect(report).toEqual({
      dataset: expect.stringContaining('9 rows'),
      rows: 9,
      datasets: [
        {
          ...{ name: at('data.json'), rows: 9, rowsInEpoch: 9, captionPrefix: '' },
          drops: { image: 0.05, text: 0.05, both: 0.05 },
        },
      ],
      badRows: [
        { row: 4, file: at('images', '4.png'), reason: expect.stringContaining('damaged or incomplete') },
        { row: 5, file: at('images', '5.png'), reason: expect.stringContaining('it is not a JPEG') },
      ],
      incomplete: [],
      leftOut: [],
      images: {
        width: { min: 20, median: 80, max: 300 },
        height: { min: 30, median: 64, max: 100 },
        // 20 × 30 in 48 × 80, and 64 × 63 in the square.
        enlarged: 2,
        duplicates: [[3, 6, 8]],
        turned: 0,
        grey16: 0,
        avif: 0,
      },
      captions: {
        count: 9,
        empty: 2,
        // 'a picture e' is 9 letters with BOS and EOS; 75 and 76 words have two more.
        tokens: { min: 2, median: 11, max: 78, limit: 77, truncated: 1 },
      },
      buckets: [
        { width: 48, height: 80, rows: 1, batches: 1, partial: 1 },
        { width: 64, height: 64, rows: 7, batches: 4, partial: 1 },
        { width: 64, height: 32, rows: 1, batches: 1, partial: 1 },
      ],
      groups: null,
      masks: null,
      stepsPerEpoch: 6,
      // Two of one row, and two with a bad one; and the rest of the square.
      partialBatches: 5,
    });
    expect(rowsPerSecond * readSeconds).toBeCloseTo(9);
  });

  it('has one square without buckets, and no tokens without a tokenizer', async () => {
    const { buckets, stepsPerEpoch, partialBatches, captions, images } = await checkDataset(options());
    expect(buckets).toEqual([{ width: 64, height: 64, rows: 9, batches: 5, partial: 1 }]);
    expect([stepsPerEpoch, partialBatches, captions.tokens, images.enlarged]).toEqual([5, 3, null, 2]);
  });

  it('says what each of several datasets adds', async () => {
    for (const name of ['first', 'second'])
      writeFileSync(at(`${name}.json`), JSON.stringify([{ image_file: '0.png', text: 'a' }]));
    const several = { dataset: [at('data.json'), at('first.json'), at('second.json')] };
    const report = await checkDataset({
      ...options(),
      ...several,
      ...{ datasetRepeats: [1, 4, 2], captionPrefix: ['', 'a drawing of', ''], dropText: [0.05, 0.3, 0] },
    });
    expect(report.datasets).toEqual([
      {
        ...{ name: at('data.json'), rows: 9, rowsInEpoch: 9, captionPrefix: '' },
        drops: { image: 0.05, text: 0.05, both: 0.05 },
      },
      {
        ...{ name: at('first.json'), rows: 1, rowsInEpoch: 4, captionPrefix: 'a drawing of' },
        drops: { image: 0.05, text: 0.3, both: 0.05 },
      },
      {
        ...{ name: at('second.json'), rows: 1, rowsInEpoch: 2, captionPrefix: '' },
        drops: { image: 0.05, text: 0, both: 0.05 },
      },
    ]);
    expect(Object.fromEntries(factsOf(report))).toMatchObject({
      'dataset 1': `${at('data.json')}: 9 rows, 9 in an epoch; drops image 0.05, text 0.05, both 0.05; no caption prefix`,
      'dataset 2': `${at('first.json')}: 1 row, 4 in an epoch; drops image 0.05, text 0.3, both 0.05; caption prefix "a drawing of"`,
    });
    const weighted = await checkDataset({ ...options(), ...several, datasetWeights: [3, 4, 4] });
    expect(weighted.datasets.map(({ rowsInEpoch }) => rowsInEpoch)).toEqual([3, 4, 4]);
    expect(factsOf(await checkDataset(options())).map(([name]) => name)).not.toContain('dataset 1');
  });

  it('reads the prompt image too, and reports a dataset without one readable image', async () => {
    mkdirSync(at('none'));
    copyFileSync(at('images', '7.png'), at('none', '0.png'));
    const rows = [
      { image_file: '0.png', prompt_image_file: 'prompt.png', text: 'a' },
      { image_file: '1.png', text: 'a' },
    ];
    writeFileSync(at('none', 'data.json'), JSON.stringify(rows));
    const { badRows, images, stepsPerEpoch, buckets } = await checkDataset({
      dataset: at('none', 'data.json'),
    });
    const reason = 'the file is missing';
    expect(badRows).toEqual([
      { row: 0, file: at('none', 'prompt.png'), reason },
      { row: 1, file: at('none', '1.png'), reason },
    ]);
    const places = [{ width: 512, height: 512, rows: 2, batches: 1, partial: 2 }];
    expect([images.width, stepsPerEpoch, buckets]).toEqual([null, 0, places]);
  });

  it('counts what is read otherwise than a viewer shows it, and names what is left out', async () => {
    mkdirSync(at('stored'));
    const black = sharp({ create: { width: 8, height: 8, channels: 3, background: 'black' } });
    const grey16 = sharp(new Uint16Array(64).fill(300), { raw: { width: 8, height: 8, channels: 1 } });
    const save = async (name: string, image: Sharp): Promise<void> => {
      await image.toFile(at('stored', name));
      writeFileSync(at('stored', `${name.split('.')[0]}.txt`), 'a');
    };
    await save('1.jpg', black.clone().withMetadata({ orientation: 1 }));
    await save('2.jpg', black.clone().withMetadata({ orientation: 6 }));
    await save('3.tiff', black.clone().withMetadata({ orientation: 3 }));
    await save('4.png', grey16.toColourspace('grey16'));
    await save('5.avif', black.clone());
    for (const name of ['6.heic', '6.txt', 'readme.txt']) writeFileSync(at('stored', name), 'x');
    const { rows, images, incomplete, leftOut } = await checkDataset({ dataset: at('stored') });
    expect([rows, images.turned, images.grey16, images.avif]).toEqual([5, 2, 1, 1]);
    expect([...incomplete, ...leftOut].map(({ file }) => file)).toEqual([
      at('stored', '6.heic'),
      at('stored', 'readme.txt'),
    ]);
  });

  it('ends when it is asked to, and refuses what is no option', async () => {
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    await expect(checkDataset(options(), { signal })).rejects.toBe(reason);
    await expect(checkDataset({ ...options(), learningRate: 1 } as never)).rejects.toThrow(
      /Unknown option learningRate/,
    );
  });
});
