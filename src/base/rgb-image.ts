/** @file Images in memory as plain data. */

/** A width and a height, in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** An image in memory: `data` holds height × width × 3 bytes (row-major, R G B), each 0…255. */
export interface RgbImage extends Size {
  readonly data: Uint8Array;
}
