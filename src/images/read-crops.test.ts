import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { jpegLibrary } from '../torch/index.js';
import { fileSource } from './image-source.js';
import { readCrops } from './read-crops.js';
import { trainResizing } from './train-transform.js';

let folder: string;
let file: string;
/** A large JPEG with shading, an edge and grain. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-crops-'));
  file = join(folder, 'large.jpg');
  const side = 1024;
  const data = new Uint8Array(3 * side * side);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const [x, y] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side)];
    data[i] = (x > y ? 40 : 120) + (x + y) / 20 + (state >>> 27);
  }
  await sharp(data, { raw: { width: side, height: side, channels: 3 } })
    .jpeg({ quality: 90 })
    .toFile(file);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function crop(side: number, reduced: boolean): Promise<RgbImage> {
  const planner = (image: Size) => ({ resizing: trainResizing(image, { width: side, height: side }) });
  return (await readCrops(fileSource(file), [planner], { reduced }))[0] as RgbImage;
}

it.skipIf(jpegLibrary() === null).each([64, 128, 256])(
  'a reduced JPEG gives nearly the same crop of %d pixels',
  async (side) => {
    const [exact, reduced] = [await crop(side, false), await crop(side, true)];
    const differences = exact.data.map((value, i) => Math.abs(value - (reduced.data[i] as number)));
    expect(differences.reduce((most, difference) => Math.max(most, difference), 0)).toBeLessThanOrEqual(9);
    const mean = differences.reduce((sum, difference) => sum + difference, 0) / differences.length;
    expect(mean).toBeLessThan(0.7);
    // It was decoded at a reduced size.
    expect(mean).toBeGreaterThan(0);
  },
);

it('a JPEG that is not four times as large as needed is read as it is', async () => {
  expect((await crop(300, true)).data).toEqual((await crop(300, false)).data);
});
