/** @file Masks for the pictures of a test's world. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import type { World } from './e2e/world.js';

/**
 * Draws a mask for two of three rows of a world, each of another size, so that weights differ.
 * @returns all rows, as a dataset of JSON has them, each in one of so many groups
 */
export async function maskedRows({ root }: World, groups: number): Promise<object[]> {
  const at = (...parts: string[]): string => join(root, ...parts);
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8')) as { image_file: string }[];
  return await Promise.all(
    rows.map(async (row, i) => {
      if (i % 3 === 2) return { ...row, group: i % groups };
      const { width = 0, height = 0 } = await sharp(at('images', row.image_file)).metadata();
      const grey = Buffer.alloc(width * height);
      for (let y = 0; y < height; y++)
        grey.fill(255, y * width + 1, y * width + Math.ceil((width * (i + 2)) / (rows.length + 2)));
      await sharp(grey, { raw: { width, height, channels: 1 } })
        .png()
        .toFile(at('images', `m${i}.png`));
      return { ...row, mask_file: `m${i}.png`, group: i % groups };
    }),
  );
}
