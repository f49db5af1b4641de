/** @file An image as an option takes it. */
import { z } from 'zod';
import type { RgbImage } from '../base/rgb-image.js';
import { path } from './options.js';

/** An image: a file, or in memory. */
export const image = z.union([path, z.custom<RgbImage>(isRgbImage).meta({ tsType: 'RgbImage' })], {
  error: 'must be a path, or an image { data, width, height }',
});

function isRgbImage(value: unknown): boolean {
  const { data, width, height } = (value ?? {}) as Partial<RgbImage>;
  return data instanceof Uint8Array && data.length > 0 && data.length === Number(width) * Number(height) * 3;
}
