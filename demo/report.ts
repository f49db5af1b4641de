/** @file Writes the report of a demo run: an image grid, the loss curve, and an HTML page with both. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import sharp from 'sharp';
import { type Evaluation, encodePng, type RgbImage } from '../src/index.js';

export interface Column {
  title: string;
  /** One for each image prompt. */
  images: readonly RgbImage[];
}

export interface Run {
  /** Files of the image prompts. */
  prompts: readonly string[];
  columns: readonly Column[];
  evaluation: Evaluation;
  /** Path of the run's metrics.jsonl. */
  metrics: string;
}

/** Width and height of an image on the page, in pixels. */
const SIDE = 128;

/** Writes grid.png, loss.svg, loss.png and index.html into `folder`. */
export async function writeReport(
  folder: string,
  { prompts, columns, evaluation, metrics }: Run,
): Promise<void> {
  const rows = await Promise.all(
    prompts.map(async (prompt, i) => {
      const cells = [
        readFileSync(prompt),
        ...(await Promise.all(columns.map(({ images }) => encodePng(images[i]!)))),
      ];
      // Enlarged without smoothing, to show the generated pixels.
      return Promise.all(
        cells.map((png) => sharp(png).resize(SIDE, SIDE, { kernel: 'nearest' }).png().toBuffer()),
      );
    }),
  );
  await writeFile(join(folder, 'grid.png'), await grid(rows));
  const curve = lossCurve(readLosses(metrics));
  await writeFile(join(folder, 'loss.svg'), curve);
  await sharp(Buffer.from(curve), { density: 144 })
    .flatten({ background: 'white' })
    .png()
    .toFile(join(folder, 'loss.png'));
  const titles = ['image prompt', ...columns.map(({ title }) => title)];
  await writeFile(join(folder, 'index.html'), page(titles, rows, curve, evaluation));
}

async function grid(rows: readonly (readonly Buffer[])[]): Promise<Buffer> {
  const width = SIDE * rows[0]!.length;
  return sharp({ create: { width, height: SIDE * rows.length, channels: 3, background: 'white' } })
    .composite(rows.flatMap((row, y) => row.map((input, x) => ({ input, left: x * SIDE, top: y * SIDE }))))
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

function lossCurve(losses: Loss[]): string {
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
  return plot.outerHTML;
}

function page(
  titles: readonly string[],
  rows: readonly (readonly Buffer[])[],
  curve: string,
  { scores, rows: count }: Evaluation,
): string {
  const image = (png: Buffer): string =>
    `<td><img src="data:image/png;base64,${png.toString('base64')}" width="${SIDE}" height="${SIDE}" alt=""></td>`;
  const number = (value: number | null): string => `<td>${value === null ? '–' : value.toFixed(3)}</td>`;
  const measured = scores.map(
    ({ scale, clipI, clipIOthers, clipT, retrievalTop1 }) =>
      `<tr><th>${scale === 0 ? 'no adapter' : `scale ${scale}`}</th>${number(clipI)}${number(clipIOthers)}${number(clipT)}<td>${(100 * retrievalTop1).toFixed(1)} %</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>ip-adapter: a demo run</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: 2px 10px 2px 0; text-align: left; font-weight: normal }
  th { color: #666 } img, svg { display: block }
</style>
<h1>An adapter learns to see</h1>
<p>An IP-Adapter lets a diffusion model take an image as its prompt. Each row has an image as its only prompt, without text;
its scene is not in the training set. The other columns are generated from the same noise, without the adapter and as it
learns.</p>
<table><tr>${titles.map((title) => `<th>${title}</th>`).join('')}</tr>
${rows.map((row) => `<tr>${row.map(image).join('')}</tr>`).join('\n')}</table>
<h2>Measured</h2>
<p>On ${count} held-out scenes. CLIP-I is the similarity (−1 to 1) of an image to its own prompt; "to others" is the similarity to the
other prompts, and should be clearly lower. CLIP-T is the similarity to the caption of the prompt's scene. Retrieval top-1 is the
share of images whose own prompt is the closest of all ${count}; chance is ${(100 / count).toFixed(1)} %.</p>
<table><tr><th></th><th>CLIP-I</th><th>CLIP-I to others</th><th>CLIP-T</th><th>retrieval top-1</th></tr>
${measured.join('\n')}</table>
<h2>Loss</h2>
${curve}
<p>The adapter: <a href="ip-adapter-plus_demo.bin">ip-adapter-plus_demo.bin</a>, and in every checkpoint as
<code>ip_adapter.safetensors</code>.</p>
</html>
`;
}
