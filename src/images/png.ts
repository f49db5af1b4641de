/** @file PNG files with text in them (W3C PNG, third edition, sections 5 and 11.3.3), and contact sheets. */
import { crc32, inflateSync } from 'node:zlib';
import { ConfigError } from '../base/errors.js';
import type { RgbImage, Size } from '../base/rgb-image.js';

/** Signature and header come first in every PNG: 8 bytes, and 25 of the IHDR chunk. */
const HEADER_BYTES = 33;
/** Far more bytes than settings have. */
const MAX_TEXT = 2 ** 24;
const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

/**
 * Returns an image as PNG, the same bytes for the same input.
 * @param text by keyword, 1 to 79 Latin letters; viewers show it, and 'parameters' is what image generators write
 */
export async function encodePng(image: RgbImage, text: Record<string, string> = {}): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  const { data, width, height } = image;
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  const chunks = Object.entries(text).map(([keyword, value]) => textChunk(keyword, value));
  return Buffer.concat([png.subarray(0, HEADER_BYTES), ...chunks, png.subarray(HEADER_BYTES)]);
}

/** Returns the texts of a PNG file by keyword, the first of several; null where it is another file. */
export function readPngText(png: Buffer): Map<string, string> | null {
  if (!png.subarray(0, SIGNATURE.length).equals(SIGNATURE)) return null;
  const texts = new Map<string, string>();
  // Of all texts together: each of thousands may be small in the file, and large when it is unpacked.
  let room = MAX_TEXT;
  for (let start = SIGNATURE.length; start + 12 <= png.length; ) {
    const end = start + 8 + png.readUInt32BE(start);
    const type = png.toString('latin1', start + 4, start + 8);
    if (end + 4 > png.length) break;
    const [keyword, text] = textOf(type, png.subarray(start + 8, end), room) ?? [];
    if (keyword !== undefined && text !== undefined && !texts.has(keyword)) {
      texts.set(keyword, text);
      room -= text.length;
    }
    start = end + 4;
  }
  return texts;
}

/** Returns keyword and text of a chunk; undefined where it is no text, damaged, or larger than `room` when it is unpacked. */
function textOf(type: string, data: Buffer, room: number): [keyword: string, text: string] | undefined {
  const end = data.indexOf(0);
  if (end < 0) return undefined;
  const keyword = data.toString('latin1', 0, end);
  try {
    if (type === 'tEXt') return [keyword, data.toString('latin1', end + 1)];
    if (type === 'zTXt') return [keyword, inflate(data.subarray(end + 2), room).toString('latin1')];
    if (type !== 'iTXt') return undefined;
    const isCompressed = data[end + 1] === 1;
    // After the two bytes of compression, language and translated keyword.
    const text = data.subarray(data.indexOf(0, data.indexOf(0, end + 3) + 1) + 1);
    return [keyword, (isCompressed ? inflate(text, room) : text).toString('utf8')];
  } catch {
    return undefined;
  }
}

/** @throws where the text is damaged, or has more than `room` bytes */
function inflate(data: Buffer, room: number): Buffer {
  return inflateSync(data, { maxOutputLength: Math.max(1, room) });
}

/** Returns a tEXt chunk, which holds Latin-1 only, or an iTXt chunk in UTF-8 for other text. */
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

/** Side of the largest contact sheet, in pixels: viewers and encoders refuse larger images. */
const MAX_SHEET_SIDE = 16_384;

/** Returns whether a contact sheet of so many images of a size is not too large. */
export function fitsContactSheet(count: number, { width, height }: Size): boolean {
  const columns = Math.ceil(Math.sqrt(count));
  return columns * width <= MAX_SHEET_SIDE && Math.ceil(count / columns) * height <= MAX_SHEET_SIDE;
}

/**
 * Returns the images row by row in a grid; unused places are white.
 * @param images of one size, one or more
 * @param columns default: as square as possible
 * @throws ConfigError where there is no image, or sizes differ
 */
export function contactSheet(
  images: readonly RgbImage[],
  columns: number = Math.ceil(Math.sqrt(images.length)),
): RgbImage {
  const [first] = images;
  if (first === undefined) throw new ConfigError('Expected one image or more for a contact sheet');
  const { width, height } = first;
  for (const [i, image] of images.entries())
    if (image.width !== width || image.height !== height)
      throw new ConfigError(
        `Expected images of one size for a contact sheet but image ${i} is ${image.width} × ${image.height} and image 0 is ${width} × ${height}`,
      );
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
