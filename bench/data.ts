/**
 * @file Benchmarks data loading: JPEGs from a tar are decoded, resampled for the VAE (512 px) and for CLIP (224 px), and
 * converted to floats. Pillow does the same with one process for each core, and so does torchvision with a DataLoader, if
 * python3 has it. To measure one core, and four:
 *
 *     taskset -c 0 npx tsx bench/data.ts
 *     UV_THREADPOOL_SIZE=4 taskset -c 0-3 npx tsx bench/data.ts
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { seededRandom } from '../demo/world/random.js';
import type { RgbImage } from '../src/base/rgb-image.js';
import { DataLoader } from '../src/data/data-loader.js';
import { openDataset } from '../src/data/open-dataset.js';
import { readImage } from '../src/images/image.js';
import { ImageProcessor } from '../src/images/image-processor.js';
import { trainCrop } from '../src/images/train-transform.js';
import { ClipTokenizer } from '../src/models/clip/clip-tokenizer.js';
import { tidy } from '../src/torch/index.js';
import { tarOf } from '../test/write-tar.js';
import { findPython, median, printRow, startReference } from './side-by-side.js';

const IMAGES = 64;
const ROUNDS = 5;
const RESOLUTION = 512;
const SIZE = { width: RESOLUTION, height: RESOLUTION };
const BATCH_SIZE = 4;
const PREFETCH = 2;
const IN_FLIGHT = PREFETCH * BATCH_SIZE;

/** Creates a JPEG similar to a photograph: shapes, shading and grain, 512 to 768 pixels a side. */
async function createJpeg(seed: number): Promise<Buffer> {
  const random = seededRandom(seed);
  const [width, height] = [512, 512].map((side) => side + Math.floor(random() * 257)) as [number, number];
  const shapes = Array.from({ length: 12 }, () => {
    const [x, y, r, hue] = [width, height, 200, 360].map((range) => Math.round(random() * range));
    return `<circle cx="${x}" cy="${y}" r="${r}" fill="hsl(${hue},60%,50%)" fill-opacity="0.7"/>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${shapes.join('')}</svg>`;
  const { data, info } = await sharp(Buffer.from(svg))
    .flatten({ background: '#888' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  for (let i = 0; i < data.length; i++)
    data[i] = Math.max(0, Math.min(255, (data[i] as number) + 24 * (random() - 0.5)));
  return sharp(data, { raw: { width, height, channels: info.channels } })
    .jpeg({ quality: 90 })
    .toBuffer();
}

const folder = mkdtempSync(join(tmpdir(), 'data-'));
const tar = join(folder, 'images.tar');
const jpegs = await Promise.all(Array.from({ length: IMAGES }, (_, i) => createJpeg(i)));
writeFileSync(
  tar,
  await tarOf(
    jpegs.flatMap((jpeg, i) => [
      [`${1000 + i}.jpg`, jpeg],
      [`${1000 + i}.txt`, 'shapes'],
    ]),
  ),
);

const demo = fileURLToPath(new URL('../demo/models', import.meta.url));
const imageProcessor = ImageProcessor.load(join(demo, 'image_encoder'), 224);
const { rows } = await openDataset({ dataset: tar });
const loader = new DataLoader({
  rows,
  tokenizer: ClipTokenizer.load(join(demo, 'tokenizer')),
  imageProcessor,
  resolution: RESOLUTION,
  batchSize: BATCH_SIZE,
  prefetch: PREFETCH,
  seed: 0,
});
const drop = { dropImage: false, dropText: false };
const samples = Array.from(rows, (_, row) => ({ row, drop, caption: '', flip: false }));
const images: RgbImage[] = [];
for (const row of rows) images.push(await readImage(row.image));

const wholeRows = async () => {
  let seen = 0;
  for await (const { rows, pixelValues, clipPixelValues } of loader.read(samples, [
    'pixelValues',
    'clipPixelValues',
  ])) {
    tidy(() => {
      pixelValues?.toTensor();
      clipPixelValues?.toTensor();
    });
    seen += rows.length;
  }
  if (seen !== IMAGES) throw new Error(`read ${seen} of ${IMAGES} rows`);
};

/** Each processes all images. */
const operations: Record<string, () => unknown> = {
  'whole rows': wholeRows,
  'whole rows, torchvision': wholeRows,
  'decode alone': async () => {
    // With the loader's concurrency.
    for (let i = 0; i < rows.length; i += IN_FLIGHT)
      await Promise.all(samples.slice(i, i + IN_FLIGHT).map(({ row }) => readImage(rows.at(row)!.image)));
  },
  'VAE crop alone': () => images.map((image) => trainCrop(image, SIZE)),
  'CLIP crop alone': () => images.map((image) => imageProcessor.crop(image)),
};

const cores = availableParallelism();
const reference = await startReference('data.py', [String(cores), tar], findPython('PIL, numpy'));
console.log(`${IMAGES} JPEGs of 512 to 768 px, ${cores} × ${cpus()[0]?.model.trim()}, median of ${ROUNDS}`);
printRow(['images/s', 'ours', 'Pillow', 'ours / Pillow']);
for (const [name, run] of Object.entries(operations)) {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const begin = performance.now();
    await run();
    const ourSeconds = (performance.now() - begin) / 1000 / IMAGES;
    const theirSeconds = await reference?.ask({ name, count: IMAGES });
    if (round === 0) continue;
    ours.push(ourSeconds);
    if (theirSeconds !== undefined && !Number.isNaN(theirSeconds)) theirs.push(theirSeconds);
  }
  const python =
    theirs.length === 0
      ? ['not installed', '']
      : [(1 / median(theirs)).toFixed(1), (median(theirs) / median(ours)).toFixed(2)];
  printRow([name, (1 / median(ours)).toFixed(1), ...python]);
}
reference?.end();
rmSync(folder, { recursive: true });
