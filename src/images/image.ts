/**
 * @file Reads an image file into RGB bytes, exactly as Pillow's `Image.open(path).convert("RGB")` does.
 *
 * sharp decodes in libuv's threads with the same libraries as Pillow. Its defaults make an image look right, while Pillow
 * keeps the stored numbers. So here embedded colour profiles and EXIF orientation are ignored, alpha is removed without
 * compositing, and two conversions (CMYK, 16-bit grey) follow Pillow's arithmetic (Pillow `src/libImaging/Convert.c`).
 *
 * Known differences: BMP is not read; the colour under a GIF's transparent pixels is black; AVIF decodes up to
 * 79 levels off at hard edges; a PNG with a wrong checksum is refused where Pillow reads it.
 */
import { statSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import sharp, { type Metadata, type Sharp } from 'sharp';
import { DatasetError, isSystemError } from '../base/errors.js';
import { NotAFileError, regularFile } from '../base/regular-file.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { withinBudget } from './decode-budget.js';
import { FAULT_BYTES, faultOf } from './image-fault.js';
import { type ImageSource, SourceFailure } from './image-source.js';
import { otherSpelling } from './missing-file.js';

let isSharpSetUp = false;

/** Configures libvips for the whole process, at the first image: importing this package must have no effect. */
function setUpSharp(): void {
  if (isSharpSetUp) return;
  isSharpSetUp = true;
  // One thread per image: many images are decoded at the same time, and LibTorch needs the other cores.
  sharp.concurrency(1);
  // Each image is read once per epoch: libvips's cache of open files and operations would only grow.
  sharp.cache(false);
}

/** What sharp reads from the header of an image. */
export type ImageHeader = Metadata;

/** An image cannot be read. `reason` is the cause alone, for reports that name the image themselves. */
export class ImageError extends DatasetError {
  constructor(
    readonly image: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`Expected an image in ${image} but ${reason}.`, options);
  }
}

/** The limit above which Pillow refuses images as decompression bombs (twice `Image.MAX_IMAGE_PIXELS`). */
export const MAX_PIXELS = 2 * Math.floor(2 ** 30 / 4 / 3);

/** The formats that both sharp and Pillow decode (`heif` is AVIF here). sharp could also render SVG. */
const FORMATS = new Set(['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']);

/**
 * Decodes an image (the first frame of an animated one).
 * @throws ImageError when the file is missing, truncated, corrupt, too large or not an image.
 */
export function readImage(source: ImageSource): Promise<RgbImage> {
  return useImage(source, async (image) => image);
}

/**
 * Decodes an image and calls `use` with it. It waits while other images take too much memory.
 * @param use makes a smaller result of the image; it must not read another image itself
 * @throws ImageError as `readImage`, and what `use` throws
 */
export async function useImage<T>(
  source: ImageSource,
  use: (image: RgbImage, header: ImageHeader) => Promise<T>,
): Promise<T> {
  const { image, header } = await orImageError(source, () => open(source));
  const decoded = (): Promise<RgbImage> => orImageError(source, () => decode(source, image, header));
  return withinBudget(decodingBytes(header), async () => use(await decoded(), header));
}

/**
 * Returns the size of an image from its header alone; the rest of the image may be damaged.
 * @throws ImageError as `readImage`, for faults of the header
 */
export function readImageSize(source: ImageSource): Promise<Size> {
  return orImageError(source, async () => {
    const { width, height } = (await open(source)).header;
    return { width, height };
  });
}

async function orImageError<T>(source: ImageSource, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof ImageError) throw error;
    if (error instanceof SourceFailure) throw error.cause;
    throw new ImageError(source.name, await reasonOf(error, source), { cause: error });
  }
}

async function open(source: ImageSource): Promise<{ image: Sharp; header: ImageHeader }> {
  setUpSharp();
  // regularFile refuses named pipes, on which sharp would block one of libuv's few threads.
  const input = source.file === undefined ? await readBytes(source) : regularFile(source.file);
  // 'error' refuses what Pillow refuses, truncated files above all. The stricter default, 'warning', would also
  // refuse images that Pillow reads, such as a JPEG with a few damaged blocks.
  const image = sharp(input, { failOn: 'error', ignoreIcc: true, limitInputPixels: MAX_PIXELS });
  const header = await image.metadata();
  if (!FORMATS.has(header.format)) throw new Error(`Expected an image but its format is ${header.format}`);
  if (header.format === 'png') assertHolds(header, input);
  return { image, header };
}

/** Refuses a PNG that is far too small for its pixels, before memory is allocated for all of them. */
function assertHolds({ width, height }: ImageHeader, input: string | Uint8Array): void {
  // A pixel takes at least one bit, and deflate compresses by a factor of at most 1032.
  const needed = (width * height) / 8 / 1032;
  if (needed < 1000) return;
  const size = typeof input === 'string' ? statSync(input).size : input.length;
  if (size < needed) throw new Error(`Expected at least ${needed} bytes but the file has ${size}`);
}

/** Reads the bytes of an image that is part of a file. Errors of the source, such as a tar's, become the reason. */
async function readBytes(source: ImageSource): Promise<Uint8Array> {
  try {
    return await source.read();
  } catch (cause) {
    if (isSystemError(cause) || cause instanceof SourceFailure) throw cause;
    throw new ImageError(source.name, (cause as Error).message, { cause });
  }
}

/** Returns the peak memory of decoding, as measured: formats that are not decoded row by row need it twice or more. */
function decodingBytes({ width, height, format, isProgressive, space }: ImageHeader): number {
  const inRows = (format === 'jpeg' || format === 'png' || format === 'tiff') && !isProgressive;
  const perPixel = inRows ? (space === 'cmyk' || space === 'grey16' ? 7 : 3) : 8;
  return width * height * perPixel;
}

async function decode(source: ImageSource, image: Sharp, header: ImageHeader): Promise<RgbImage> {
  const { space, channels } = header;
  if (space === 'cmyk') {
    // Without the pipeline colour space libvips would convert by an ICC profile instead of Pillow's formula.
    const { data, info } = await image
      .pipelineColourspace('cmyk')
      .toColourspace('cmyk')
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { data: cmykToRgb(data, info.channels), width: info.width, height: info.height };
  }
  if (space === 'grey16' && channels === 1) {
    const { data, info } = await image
      .toColourspace('grey16')
      .raw({ depth: 'ushort' })
      .toBuffer({ resolveWithObject: true });
    return { data: grey16ToRgb(data), width: info.width, height: info.height };
  }
  const { data, info } = await image
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new ImageError(source.name, `it has ${info.channels} colour channels`);
  return { data, width: info.width, height: info.height };
}

/** Converts as Pillow's `cmyk2rgb`: channel = (255 − K) − C·(255 − K)/255, the division rounded as in `MULDIV255`. */
function cmykToRgb(cmyk: Uint8Array, channels: number): Uint8Array {
  const pixels = cmyk.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    const white = 255 - cmyk[i * channels + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = cmyk[i * channels + c]! * white + 128;
      rgb[i * 3 + c] = Math.max(0, white - (((product >> 8) + product) >> 8));
    }
  }
  return rgb;
}

/** Converts as Pillow, which clips 16-bit grey to 8 bits instead of scaling it: almost every such image is nearly white. */
function grey16ToRgb(bytes: Uint8Array): Uint8Array {
  const grey = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rgb = new Uint8Array((bytes.length / 2) * 3);
  for (let i = 0; i < bytes.length / 2; i++) {
    rgb.fill(Math.min(255, grey.getUint16(2 * i, true)), 3 * i, 3 * i + 3);
  }
  return rgb;
}

/**
 * Returns why an image cannot be read, as the second half of a sentence. Only one of sharp's own messages is used, and the
 * rest comes from the bytes of the file: libvips keeps one list of errors for all threads, so its messages may be about
 * another image.
 */
async function reasonOf(error: unknown, source: ImageSource): Promise<string> {
  if (error instanceof NotAFileError) return error.message;
  if (isSystemError(error)) return refusalOf(error, source);
  const message = error instanceof Error ? error.message : String(error);
  if (message.includes('exceeds pixel limit'))
    return `it has more than ${MAX_PIXELS} pixels: make it smaller`;
  let head: Uint8Array;
  try {
    head = await headOf(source);
  } catch (refusal) {
    if (isSystemError(refusal)) return refusalOf(refusal, source);
    throw refusal;
  }
  return faultOf(head);
}

/** Returns the first bytes of an image's file. */
async function headOf(source: ImageSource): Promise<Uint8Array> {
  if (source.file === undefined) return (await source.read()).subarray(0, FAULT_BYTES);
  const handle = await openFile(source.file);
  try {
    const { buffer, bytesRead } = await handle.read(new Uint8Array(FAULT_BYTES), 0, FAULT_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function refusalOf(refusal: NodeJS.ErrnoException, { file }: ImageSource): string {
  return refusal.code === 'ENOENT'
    ? `the file is missing${file === undefined ? '' : otherSpelling(file)}`
    : `the system cannot read it (${refusal.message})`;
}
