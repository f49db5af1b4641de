/** @file Sends files as they are, and images made smaller for the page. */
import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
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

/** A client that has taken nothing for so long is gone, or an attack: its file is closed. */
const STALL_MS = 60_000;

/** Sends a file piece by piece, as the client takes it. @param file a path, or what is open already */
export function streamOf(file: string | FileHandle, stallMs = STALL_MS): ReadableStream {
  const content = typeof file === 'string' ? createReadStream(file) : file.createReadStream();
  const pieces = content[Symbol.asyncIterator]();
  const stall = (): void => void content.destroy(new Error('the client takes nothing'));
  let timer: NodeJS.Timeout | undefined;
  return new ReadableStream({
    pull: async (controller) => {
      clearTimeout(timer);
      const { done, value } = await pieces.next();
      if (done) return controller.close();
      controller.enqueue(value);
      timer = setTimeout(stall, stallMs);
      timer.unref();
    },
    cancel: () => {
      clearTimeout(timer);
      content.destroy();
    },
  });
}
