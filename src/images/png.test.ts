import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { RgbImage } from '../base/rgb-image.js';
import { contactSheet, encodePng, fitsContactSheet } from './png.js';

const image = (width: number, height: number, byte: number): RgbImage => ({
  data: new Uint8Array(width * height * 3).map((_, i) => (byte + i) % 256),
  width,
  height,
});

/** Type and data of each chunk; lengths and checksums are checked on the way. */
function chunksOf(png: Buffer): [type: string, data: Buffer][] {
  const found: [string, Buffer][] = [];
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const body = png.subarray(at + 4, at + 8 + length);
    expect(png.readUInt32BE(at + 8 + length)).toBe(crc32(body));
    found.push([body.subarray(0, 4).toString('latin1'), body.subarray(4)]);
    at += 12 + length;
  }
  return found;
}

describe('encodePng', () => {
  it('keeps every pixel', async () => {
    const one = image(5, 3, 10);
    const { data, info } = await sharp(await encodePng(one))
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([5, 3, 3]);
    expect(new Uint8Array(data)).toEqual(one.data);
  });

  it('carries text that Latin-1 can write as tEXt', async () => {
    const chunks = chunksOf(await encodePng(image(2, 2, 0), { parameters: 'a café\nSteps: 3' }));
    expect(chunks.map(([type]) => type).at(0)).toBe('IHDR');
    expect(chunks.find(([type]) => type === 'tEXt')?.[1].toString('latin1')).toBe(
      'parameters\0a café\nSteps: 3',
    );
  });

  it('carries other text as iTXt, in UTF-8, and images with it are still read', async () => {
    const png = await encodePng(image(2, 2, 0), { parameters: '猫 — a cat' });
    const text = chunksOf(png)
      .find(([type]) => type === 'iTXt')?.[1]
      .toString('utf8');
    expect(text).toBe('parameters\0\0\0\0\0猫 — a cat');
    const { comments } = await sharp(png).metadata();
    expect(comments).toEqual([{ keyword: 'parameters', text: '猫 — a cat' }]);
  });

  it('gives the same bytes again', async () => {
    const bytes = () => encodePng(image(9, 9, 1), { parameters: 'x' });
    expect(await bytes()).toEqual(await bytes());
  });
});

describe('contactSheet', () => {
  it('lays images out row by row, and leaves the rest white', () => {
    const sheet = contactSheet(
      [1, 2, 3].map((byte) => ({ data: new Uint8Array(2 * 1 * 3).fill(byte), width: 2, height: 1 })),
    );
    const rows = [
      [1, 1, 2, 2],
      [3, 3, 255, 255],
    ].flat();
    expect([sheet.width, sheet.height]).toEqual([4, 2]);
    expect([...sheet.data]).toEqual(rows.flatMap((byte) => [byte, byte, byte]));
  });

  it('refuses no images, and images of different sizes', () => {
    expect(() => contactSheet([])).toThrow(/one image or more/);
    const [small, large] = [image(2, 1, 0), image(2, 2, 0)];
    expect(() => contactSheet([small, small, large])).toThrow(/image 2 is 2 × 2 and image 0 is 2 × 1/);
  });

  it('is not for more pixels than a viewer opens', () => {
    expect(fitsContactSheet(1024, { width: 512, height: 512 })).toBe(true);
    expect(fitsContactSheet(10_000, { width: 512, height: 512 })).toBe(false);
  });

  it('has as many columns as it is told', () => {
    const one = (byte: number) => ({ data: new Uint8Array(3).fill(byte), width: 1, height: 1 });
    const { width, height, data } = contactSheet([1, 2, 3].map(one), 3);
    expect([width, height, [...data]]).toEqual([3, 1, [1, 1, 1, 2, 2, 2, 3, 3, 3]]);
  });
});
