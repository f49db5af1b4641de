/**
 * @file Read a picture file into RGB bytes, exactly as Pillow's `Image.open(path).convert("RGB")` does.
 *
 * sharp decodes in libuv's threads with the same libraries as Pillow, but its defaults make a picture look
 * right, where Pillow's keep the stored numbers. So: embedded colour profiles and EXIF orientation are ignored,
 * alpha is cut off without compositing, and two conversions (CMYK, 16-bit grey) are Pillow's own arithmetic,
 * done here (source: Pillow `src/libImaging/Convert.c`).
 *
 * Known differences: BMP is not read; the colour under a GIF's transparent pixels is black; AVIF decodes a few
 * levels off; a PNG with a wrong checksum is refused where Pillow reads it.
 */
import { open as openFile } from 'node:fs/promises';
import sharp, { type Metadata, type Sharp } from 'sharp';
import { DatasetError, isSystemError } from '../base/errors.js';
import type { ImageSource } from './image-source.js';

let isSharpSetUp = false;

/** Sets libvips up for the whole process. At the first image, since importing this package must change nothing. */
function setUpSharp(): void {
  if (isSharpSetUp) return;
  isSharpSetUp = true;
  // One thread per image: many images decode at the same time, and the engine needs the other cores.
  sharp.concurrency(1);
  // Each image is read once per epoch: libvips's cache of open files and operations would only grow.
  sharp.cache(false);
}

/** In pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A picture in memory: `data` holds height × width × 3 bytes (row-major, R G B), each 0…255. */
export interface RgbImage extends Size {
  readonly data: Uint8Array;
}

/** A picture cannot be read; `reason` is the bare cause, for reports that give the picture's name themselves. */
export class PictureError extends DatasetError {
  constructor(
    readonly picture: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`Expected a picture in ${picture} but ${reason}.`, options);
  }
}

/** Pillow refuses larger pictures as decompression bombs (twice `Image.MAX_IMAGE_PIXELS`). */
const MAX_PIXELS = 2 * Math.floor(2 ** 30 / 4 / 3);

/** What both sharp and Pillow decode (`heif` is AVIF here). sharp would also draw SVG, which is no photograph. */
const FORMATS = new Set(['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']);

/**
 * Decodes a picture (the first frame of an animated one).
 * @throws PictureError when the file is missing, truncated, corrupt, too large or not a picture.
 */
export function readPicture(source: ImageSource): Promise<RgbImage> {
  return orPictureError(source, () => decode(source));
}

/**
 * The size that `readPicture` gives, from the header alone: the rest of the picture may be damaged.
 * @throws PictureError as `readPicture`, where that shows in the header
 */
export function readPictureSize(source: ImageSource): Promise<Size> {
  return orPictureError(source, async () => {
    const { width, height } = (await open(source)).header;
    return { width, height };
  });
}

async function orPictureError<T>(source: ImageSource, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof PictureError) throw error;
    throw new PictureError(source.name, await reasonOf(error, source), { cause: error });
  }
}

async function open(source: ImageSource): Promise<{ picture: Sharp; header: Metadata }> {
  setUpSharp();
  const input = source.file ?? (await source.read());
  // 'error' refuses what Pillow refuses, truncated files above all. The stricter default, 'warning', would also
  // refuse pictures that Pillow reads, such as a JPEG with a few damaged blocks.
  const picture = sharp(input, { failOn: 'error', ignoreIcc: true, limitInputPixels: MAX_PIXELS });
  const header = await picture.metadata();
  if (!FORMATS.has(header.format)) throw new PictureError(source.name, `its format is ${header.format}`);
  return { picture, header };
}

async function decode(source: ImageSource): Promise<RgbImage> {
  const { picture, header } = await open(source);
  const { space, channels } = header;
  if (space === 'cmyk') {
    // Without the pipeline colour space libvips would go through an ICC profile, and not by Pillow's formula.
    const { data, info } = await picture
      .pipelineColourspace('cmyk')
      .toColourspace('cmyk')
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { data: cmykToRgb(data, info.channels), width: info.width, height: info.height };
  }
  if (space === 'grey16' && channels === 1) {
    const { data, info } = await picture
      .toColourspace('grey16')
      .raw({ depth: 'ushort' })
      .toBuffer({ resolveWithObject: true });
    return { data: grey16ToRgb(data), width: info.width, height: info.height };
  }
  const { data, info } = await picture
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new PictureError(source.name, `it has ${info.channels} colour channels`);
  return { data, width: info.width, height: info.height };
}

/** Pillow's `cmyk2rgb`: channel = (255 − K) − C·(255 − K)/255, the division rounded as in `MULDIV255`. */
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

/** Pillow clips 16-bit grey to 8 bits instead of scaling it, so almost every such picture is nearly white. */
function grey16ToRgb(bytes: Uint8Array): Uint8Array {
  const grey = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rgb = new Uint8Array((bytes.length / 2) * 3);
  for (let i = 0; i < bytes.length / 2; i++) {
    rgb.fill(Math.min(255, grey.getUint16(2 * i, true)), 3 * i, 3 * i + 3);
  }
  return rgb;
}

/**
 * Why a picture cannot be read, as the second half of a sentence. Of sharp's words only those that it chooses by itself
 * are used, and whether the file can be opened is asked of the system: libvips keeps one list of errors for all threads,
 * so that the rest of the message may be about another picture that fails at the same time.
 */
async function reasonOf(error: unknown, { file }: ImageSource): Promise<string> {
  const refusal = isSystemError(error) ? error : file === undefined ? null : await refusalOf(file);
  if (refusal?.code === 'ENOENT') return 'the file is missing';
  if (refusal !== null) return `the system cannot read it (${refusal.message})`;
  const message = error instanceof Error ? error.message : String(error);
  if (message.includes('exceeds pixel limit')) return `it has more than ${MAX_PIXELS} pixels`;
  if (/^Input file is missing|unsupported image format/.test(message))
    return 'it is not a JPEG, PNG, WebP, GIF, TIFF or AVIF file';
  return 'it is damaged or incomplete';
}

/** What the system says where not even one byte of a file can be read: it is missing, a folder, not ours to read. */
async function refusalOf(file: string): Promise<NodeJS.ErrnoException | null> {
  try {
    const handle = await openFile(file);
    await handle.read(new Uint8Array(1)).finally(() => handle.close());
    return null;
  } catch (refusal) {
    if (isSystemError(refusal)) return refusal;
    throw refusal;
  }
}
