/** @file Cuts images out of a sheet, small enough for a page. */
import sharp from 'sharp';
import type { Rectangle } from './resample.js';

/** Sides up to this are kept as they are; larger images are made smaller. */
const LARGEST = 192;

/** Returns parts of an image file as data URLs. */
export async function cutCells(file: string, cells: readonly Rectangle[]): Promise<string[]> {
  const sheet = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = sheet.info;
  return Promise.all(
    cells.map(async (cell) => {
      const cut = sharp(sheet.data, { raw: { width, height, channels } }).extract({ ...cell });
      const isSmall = Math.max(cell.width, cell.height) <= LARGEST;
      const small = isSmall
        ? cut.png()
        : cut.resize({ width: LARGEST, height: LARGEST, fit: 'inside' }).webp({ quality: 85 });
      return `data:image/${isSmall ? 'png' : 'webp'};base64,${(await small.toBuffer()).toString('base64')}`;
    }),
  );
}
