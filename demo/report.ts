/** @file Writes the report of a demo run: an image grid, the loss curve, and an HTML page with both. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
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

export interface Run extends Omit<PageContent, 'learning' | 'scales' | 'texts' | 'lossCurve'> {
  learning: Columns;
  scales: Columns;
  texts: Columns & { captions: readonly string[] };
  /** Path of the run's metrics.jsonl. */
  metrics: string;
}

/** Width and height of an image in the grid, in pixels. */
const SIDE = 128;

/** Writes grid.png, loss.svg, loss.png and index.html into `folder`. */
export async function writeReport(
  folder: string,
  { learning, scales, texts, metrics, ...content }: Run,
): Promise<void> {
  const table = await imageTable(learning);
  await writeFile(join(folder, 'grid.png'), await grid(table.rows));
  const lossCurve = plotLosses(readLosses(metrics));
  await writeFile(join(folder, 'loss.svg'), lossCurve);
  await sharp(Buffer.from(lossCurve), { density: 144 })
    .flatten({ background: 'white' })
    .png()
    .toFile(join(folder, 'loss.png'));
  const html = page({
    ...{ ...content, lossCurve, learning: table },
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

interface Loss {
  step: number;
  loss: number;
  smooth: number;
}

/** Reads the losses and smooths them, since a single step's loss depends mainly on its timesteps. */
function readLosses(file: string): Loss[] {
  let smooth: number | undefined;
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const { step, loss } = JSON.parse(line) as { step: number; loss: number };
      smooth = smooth === undefined ? loss : 0.97 * smooth + 0.03 * loss;
      return { step, loss, smooth };
    });
}

function plotLosses(losses: Loss[]): string {
  const { document } = parseHTML('<html><body></body></html>');
  const plot = Plot.plot({
    document,
    width: 720,
    height: 320,
    grid: true,
    x: { label: 'step' },
    y: { label: 'loss' },
    marks: [
      Plot.line(losses, { x: 'step', y: 'loss', stroke: '#c5cfdc', strokeWidth: 0.7 }),
      Plot.line(losses, { x: 'step', y: 'smooth', stroke: '#1f5fbf', strokeWidth: 2 }),
    ],
  });
  plot.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  plot.setAttribute('viewBox', '0 0 720 320');
  return plot.outerHTML;
}
