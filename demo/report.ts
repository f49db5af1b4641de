/** @file Writes the report of a demo run: an image grid, and an HTML page. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { encodePng, type RgbImage } from '../src/index.js';
import { type ImageTable, type PageContent, page } from './page.js';

export interface Column {
  title: string;
  /** One for each image prompt. */
  images: readonly RgbImage[];
}

/** Images to show: the prompts in the first column. */
interface Columns {
  /** Files of the image prompts. */
  prompts: readonly string[];
  columns: readonly Column[];
}

export interface Run extends Omit<PageContent, 'learning' | 'scales' | 'texts'> {
  learning: Columns;
  scales: Columns;
  texts: Columns & { captions: readonly string[] };
}

/** Width and height of an image in the grid, in pixels. */
const SIDE = 128;

/** Writes grid.png and index.html into `folder`. */
export async function writeReport(
  folder: string,
  { learning, scales, texts, ...content }: Run,
): Promise<void> {
  const table = await imageTable(learning);
  await writeFile(join(folder, 'grid.png'), await grid(table.rows));
  const html = page({
    ...{ ...content, learning: table },
    scales: await imageTable(scales),
    texts: { ...(await imageTable(texts)), captions: texts.captions },
  });
  await writeFile(join(folder, 'index.html'), html);
}

async function imageTable({ prompts, columns }: Columns): Promise<ImageTable> {
  const rows = prompts.map(async (prompt, i) => [
    readFileSync(prompt),
    ...(await Promise.all(columns.map(({ images }) => encodePng(images[i]!)))),
  ]);
  return {
    titles: ['image prompt', ...columns.map(({ title }) => title)],
    rows: await Promise.all(rows),
  };
}

async function grid(rows: readonly (readonly Buffer[])[]): Promise<Buffer> {
  // Enlarged without smoothing, to show the generated pixels.
  const enlarged = await Promise.all(
    rows.flatMap((row, y) =>
      row.map(async (png, x) => ({
        input: await sharp(png).resize(SIDE, SIDE, { kernel: 'nearest' }).png().toBuffer(),
        ...{ left: x * SIDE, top: y * SIDE },
      })),
    ),
  );
  const width = SIDE * rows[0]!.length;
  return sharp({ create: { width, height: SIDE * rows.length, channels: 3, background: 'white' } })
    .composite(enlarged)
    .png()
    .toBuffer();
}
