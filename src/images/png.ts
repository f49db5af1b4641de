/** @file PNG files with text in them (W3C PNG, third edition, sections 5 and 11.3.3), and contact sheets. */
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import type { RgbImage } from '../base/rgb-image.js';

/** Signature and header come first in every PNG: 8 bytes, and 25 of the IHDR chunk. */
const HEADER_BYTES = 33;

/**
 * An image as PNG, the same bytes for the same input.
 * @param text by keyword, 1 to 79 Latin letters; viewers show it, and 'parameters' is what image generators write
 */
export async function encodePng(image: RgbImage, text: Record<string, string> = {}): Promise<Buffer> {
  const { data, width, height } = image;
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  const chunks = Object.entries(text).map(([keyword, value]) => textChunk(keyword, value));
  return Buffer.concat([png.subarray(0, HEADER_BYTES), ...chunks, png.subarray(HEADER_BYTES)]);
}

/** tEXt holds Latin-1 alone; what does not fit goes into iTXt, as UTF-8. */
function textChunk(keyword: string, text: string): Buffer {
  const isLatin1 = /^[\x20-\x7e\xa0-\xff\n]*$/.test(text);
  if (isLatin1) return chunk('tEXt', Buffer.from(`${keyword}\0${text}`, 'latin1'));
  // After the keyword: not compressed (two bytes), no language, no translated keyword.
  return chunk('iTXt', Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, 'latin1'), Buffer.from(text)]));
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

/**
 * The images, all of one size, row by row in a grid; places left over are white.
 * @param columns default: as square as fits
 */
export function contactSheet(
  images: readonly RgbImage[],
  columns: number = Math.ceil(Math.sqrt(images.length)),
): RgbImage {
  const { width, height } = images[0] as RgbImage;
  const sheet = { width: columns * width, height: Math.ceil(images.length / columns) * height };
  const data = new Uint8Array(sheet.width * sheet.height * 3).fill(255);
  for (const [i, image] of images.entries()) {
    const [left, top] = [(i % columns) * width, Math.floor(i / columns) * height];
    for (let y = 0; y < height; y++) {
      const row = image.data.subarray(y * width * 3, (y + 1) * width * 3);
      data.set(row, ((top + y) * sheet.width + left) * 3);
    }
  }
  return { data, ...sheet };
}
