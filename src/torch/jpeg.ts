/** @file Decodes the usual kind of JPEG in the addon, by libjpeg-turbo (native/images/jpeg.h). */
import { native } from './native.js';
import type { FixedPointFilter } from './resample.js';

/** How many times smaller a JPEG is decoded. */
export type JpegShrink = 1 | 2 | 4 | 8;

/** Returns the name and version of the library; null where the addon was built without it, and takes no JPEG. */
export function jpegLibrary(): string | null {
  return native().jpegLibrary();
}

/** Returns width and height of a JPEG that `cropJpeg` takes; null for other files, whatever they are. */
export function jpegSize(bytes: Uint8Array): readonly [width: number, height: number] | null {
  return native().jpegSize(bytes);
}

/**
 * Decodes a JPEG at 1/shrink of its size, rounded up, and resamples the result by each pair of filters, in one of Node's
 * threads. The arrays must not be changed until it has finished.
 * @param bytes a file of which `jpegSize` is not null
 * @returns the bytes of each crop, without crops those of the whole image; null where the file has any fault
 */
export async function cropJpeg(
  bytes: Uint8Array,
  shrink: JpegShrink,
  crops: readonly { readonly columns: FixedPointFilter; readonly rows: FixedPointFilter }[],
): Promise<Uint8Array[] | null> {
  return native().cropJpeg(bytes, shrink, crops);
}
