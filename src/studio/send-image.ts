/** @file Sends image files, as they are or made smaller for the page. */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import sharp from 'sharp';
import { useImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';

/** Returns the width that a request asks for, if it is one that is made. */
export function widthOf(text: string | undefined): number | undefined {
  const width = Number(text);
  return width >= 16 && width <= 2048 ? Math.round(width) : undefined;
}

/** Returns an image file as WebP, no wider than this. @throws ImageError */
export function thumbnailOf(file: string, width: number): Promise<Buffer> {
  return useImage(fileSource(file), ({ data, ...size }) =>
    sharp(data, { raw: { ...size, channels: 3 } })
      .resize({ width, withoutEnlargement: true })
      .webp({ quality: 82 })
      .toBuffer(),
  );
}

export function streamOf(file: string): ReadableStream {
  return Readable.toWeb(createReadStream(file)) as ReadableStream;
}
