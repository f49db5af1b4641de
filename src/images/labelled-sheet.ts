/** @file A sheet of images in rows, with words that say what is seen: validation images, and the rows of a dataset. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import { drawText, fitText, lineHeight } from './pixel-font.js';
import { contactSheet } from './png.js';

export interface SheetRow {
  /** Above the row. */
  label: string;
  /** One for each column, all of one size. */
  images: readonly RgbImage[];
}

/** An image of this width has labels of the font's own size. */
const LABEL_WIDTH = 256;

/** Returns the size of a font pixel in labels of images of this width. */
function labelScale(width: number): number {
  return Math.max(1, Math.floor(width / LABEL_WIDTH));
}

/** Returns where in the sheet an image is, in pixels. */
export function cellOrigin(
  { width, height }: Size,
  row: number,
  column: number,
): { left: number; top: number } {
  const line = lineHeight * labelScale(width);
  return { left: column * width, top: 2 * line + row * (line + height) + line };
}

/** @param title of the sheet; @param columns their titles */
export function labelledSheet(
  title: string,
  columns: readonly string[],
  rows: readonly SheetRow[],
): RgbImage {
  const grid = contactSheet(
    rows.flatMap(({ images }) => images),
    columns.length,
  );
  const cell = { width: grid.width / columns.length, height: grid.height / rows.length };
  const scale = labelScale(cell.width);
  const line = lineHeight * scale;
  const height = grid.height + (2 + rows.length) * line;
  const data = new Uint8Array(grid.width * height * 3).fill(255);
  const sheet = { data, width: grid.width, height };
  const write = (text: string, left: number, top: number, width: number): void =>
    drawText(sheet, fitText(text, width - 2 * scale, scale), left + 2 * scale, top + 2 * scale, scale);
  write(title, 0, 0, grid.width);
  for (const [i, column] of columns.entries()) write(column, i * cell.width, line, cell.width);
  const rowBytes = cell.height * grid.width * 3;
  for (const [i, { label }] of rows.entries()) {
    const { top } = cellOrigin(cell, i, 0);
    write(label, 0, top - line, grid.width);
    data.set(grid.data.subarray(i * rowBytes, (i + 1) * rowBytes), top * grid.width * 3);
  }
  return sheet;
}
