import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RgbImage } from '../base/rgb-image.js';
import { readImage } from '../images/image.js';
import { ImageProcessor } from '../images/image-processor.js';
import { fileSource } from '../images/image-source.js';
import { mirror } from '../images/mirror.js';
import { readCrops } from '../images/read-crops.js';
import { readReference, referenceReading } from './reference-image.js';
import { type ReferenceOptions, referenceOptions } from './reference-options.js';

let dir: string;
const at = (name: string) => fileSource(join(dir, name));
const [WIDTH, HEIGHT] = [60, 40];
/** Red in a rectangle of 20 × 10 pixels at (30, 20), and stripes around it. */
const isShown = (x: number, y: number): boolean => x >= 30 && x < 50 && y >= 20 && y < 30;

async function write(name: string, colourOf: (x: number, y: number) => number[]): Promise<void> {
  const data = Array.from({ length: WIDTH * HEIGHT }, (_, i) => colourOf(i % WIDTH, Math.floor(i / WIDTH)));
  await sharp(Buffer.from(data.flat()), { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
    .png()
    .toFile(join(dir, name));
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-reference-'));
  await write('image.png', (x, y) => (isShown(x, y) ? [200, 10 * (x % 3), 0] : [0, x % 2 ? 255 : 0, 4 * y]));
  await write('mask.png', (x, y) => (isShown(x, y) ? [255, 255, 255] : [0, 0, 0]));
});
afterAll(() => rmSync(dir, { recursive: true }));

const processor = ImageProcessor.load('/absent', 16);
const options = (changes: Parameters<typeof referenceOptions>[0]) =>
  referenceOptions(changes) as ReferenceOptions;

async function seen(changes: Parameters<typeof referenceOptions>[0], variant?: number): Promise<RgbImage> {
  const reading = await referenceReading({ mask: at('mask.png'), variant }, processor, options(changes));
  const [crop] = (await readCrops(at('image.png'), [reading.planner])) as [RgbImage];
  return reading.finish(crop);
}
const pixels = ({ data, width }: RgbImage, keep: (x: number, y: number) => boolean): number[][] =>
  Array.from({ length: data.length / 3 }, (_, i) => i)
    .filter((i) => keep(i % width, Math.floor(i / width)))
    .map((i) => [...data.subarray(3 * i, 3 * i + 3)]);

describe('a reference with a mask', () => {
  it('is cut to the square around what the mask shows, and cleared elsewhere', async () => {
    const row = {
      image: at('image.png'),
      promptImage: at('image.png'),
      captions: [''],
      mask: at('mask.png'),
    };
    const cut = await readReference({ ...row, promptImage: row.image }, options({ referenceMaskCrop: true }));
    // 20 × 20, five rows above and below the rectangle.
    expect([cut.width, cut.height]).toEqual([20, 20]);
    const whole = await readImage(row.image);
    expect(pixels(cut, () => true)).toEqual(pixels(whole, (x, y) => x >= 30 && x < 50 && y >= 15 && y < 35));
    const both = { referenceMaskCrop: true, referenceBackground: '#0a141e' };
    const cleared = await readReference({ ...row, promptImage: row.image }, options(both));
    const inside = (_: number, y: number): boolean => y >= 5 && y < 15;
    expect(pixels(cleared, inside)).toEqual(pixels(whole, isShown));
    for (const pixel of pixels(cleared, (x, y) => !inside(x, y))) expect(pixel).toEqual([10, 20, 30]);
    // A reference that is an image of its own has no mask.
    const own = { ...row, promptImage: at('image.png') };
    expect(await readReference(own, options(both))).toEqual(whole);
  });

  it('is what the encoder reads', async () => {
    const { data } = await seen({ referenceMaskCrop: true, referenceBackground: '#0a141e' });
    expect(data).toHaveLength(16 * 16 * 3);
    expect([...data.subarray(0, 3)]).toEqual([10, 20, 30]);
    const middle = pixels({ data, width: 16, height: 16 }, (x, y) => x === 8 && y === 8)[0] as number[];
    expect(middle[0]).toBeGreaterThan(190);
  });
});

describe('variations', () => {
  const varied = {
    ...{ referenceFlip: 0.5, referenceCrop: 0.5, referenceRotation: 20 },
    referenceColorJitter: [0.3, 0.3, 0.3, 0.1],
  };

  it('are decided by the number, and by nothing else', async () => {
    expect(await seen(varied, 5)).toEqual(await seen(varied, 5));
    const bytes = await Promise.all([1, 2, 3, 4].map(async (variant) => (await seen(varied, variant)).data));
    expect(new Set(bytes.map(String)).size).toBe(4);
    expect(await seen(varied)).toEqual(processor.crop(await readImage(at('image.png'))));
  });

  it('mirror the share that is asked for', async () => {
    const plain = processor.crop(await readImage(at('image.png')));
    let mirrored = 0;
    for (let variant = 0; variant < 100; variant++) {
      const { data } = await seen({ referenceFlip: 0.3 }, variant * 77_777);
      const is = (image: RgbImage): boolean => Buffer.compare(data, image.data) === 0;
      expect(is(plain) || is(mirror(plain))).toBe(true);
      if (is(mirror(plain))) mirrored++;
    }
    // 30 ± three standard deviations of 4.6
    expect(mirrored).toBeGreaterThan(16);
    expect(mirrored).toBeLessThan(44);
  });

  it('crop parts of the area and shapes that are asked for, everywhere', async () => {
    const boxes = await Promise.all(
      Array.from({ length: 200 }, async (_, variant) => {
        const crop = options({ referenceCrop: 0.4 });
        const reading = await referenceReading({ mask: undefined, variant: variant * 9973 }, processor, crop);
        return reading.planner({ width: 1000, height: 1000 }).resizing.box as NonNullable<unknown>;
      }),
    );
    const list = boxes as { left: number; top: number; width: number; height: number }[];
    const shares = list.map(({ width, height }) => (width * height) / 1e6);
    expect(Math.min(...shares)).toBeGreaterThan(0.395);
    expect(Math.min(...shares)).toBeLessThan(0.45);
    expect(Math.max(...shares)).toBeGreaterThan(0.85);
    for (const { left, top, width, height } of list) {
      expect(width / height).toBeGreaterThan(0.74);
      expect(width / height).toBeLessThan(1.34);
      expect(left + width).toBeLessThanOrEqual(1000);
      expect(top + height).toBeLessThanOrEqual(1000);
    }
    expect(Math.max(...list.map(({ left }) => left))).toBeGreaterThan(250);
    expect(Math.min(...list.map(({ top }) => top))).toBeLessThan(20);
  });
});
