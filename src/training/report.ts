/** @file `ip-adapter report`: a run's folder as one HTML file that works offline, without scripts. No tensors are needed. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VerdictEvent } from '../base/run-context.js';
import { cutCells } from '../images/cells.js';
import { cellOrigin } from '../images/labelled-sheet.js';
import { type RunRecord, readRun } from './read-run.js';
import { compact, escaped, smoothed, thin } from './report-charts.js';
import {
  cosine,
  gainSection,
  gaugeSection,
  last,
  lossSection,
  percent,
  scoresSection,
} from './report-measures.js';
import { reportStyle } from './report-style.js';

/** A grid shows no more steps than this. */
const MOST_SHEETS = 8;

/**
 * Writes `report.html` into the output folder of a run, also while it trains.
 * @returns the file's path
 * @throws CheckpointError where the folder is not a run's
 */
export async function writeRunReport(folder: string, out = join(folder, 'report.html')): Promise<string> {
  const run = readRun(folder);
  writeFileSync(out, await reportPage(run));
  return out;
}

async function reportPage(run: RunRecord): Promise<string> {
  const sections = [
    verdicts(run),
    gainSection(run),
    scoresSection(run),
    await imagesSection(run),
    lossSection(run),
    gaugeSection(run),
    factsSection(run),
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(run.name)}: training report</title>
<style>${reportStyle}</style>
<main>
${header(run)}
${sections.filter((section) => section !== '').join('\n')}
</main>
</html>
`;
}

function header({ name, steps, gains, scores, options }: RunRecord): string {
  const [first, end] = [steps[0], last(steps)];
  const seconds = (end?.time ?? 0) - (first?.time ?? 0);
  const title = `${options.kind ?? 'adapter'}, ${options.resolution ?? '?'} px, batch ${options.batch_size ?? '?'}`;
  const gain = last(gains);
  const score = last(scores);
  const loss = last(
    smoothed(
      steps.map(({ step, loss }) => ({ x: step, y: loss })),
      0.98,
    ),
  );
  const tiles = [
    tile(
      'steps',
      `${(end?.step ?? 0).toLocaleString('en')}`,
      `of ${end?.total_steps.toLocaleString('en')}, ${duration(seconds)}`,
    ),
    ...(gain
      ? [tile('gain', signed(gain.gain.mean), `${signed(gain.gain.low)} … ${signed(gain.gain.high)}`)]
      : []),
    ...(score
      ? [
          tile('retrieval', percent(score.adapter.retrieval.mean), `chance ${percent(1 / score.rows)}`),
          tile(
            'CLIP-I',
            cosine(score.adapter.clipI.mean),
            `another reference ${cosine(score.shuffled.clipI.mean)}`,
          ),
        ]
      : []),
    tile('loss, smoothed', (loss?.y ?? 0).toFixed(4), 'depends on the timesteps drawn'),
  ];
  return `<header><p>Training report</p><h1>${escaped(name)}</h1><p>${escaped(title)}</p></header>
<div class="tiles">${tiles.join('')}</div>`;
}

function tile(name: string, value: string, note: string): string {
  return `<div><span>${name}</span><b>${value}</b><small>${note}</small></div>`;
}

const moods: Record<VerdictEvent['kind'], 'good' | 'bad' | 'open'> = {
  'uses the image': 'good',
  harms: 'bad',
  'ignores the image': 'bad',
  'does not use the image yet': 'open',
  unclear: 'open',
  copies: 'open',
  'ignores the text': 'open',
  'loss drifts': 'bad',
  'norm drifts': 'bad',
};

function verdicts({ verdicts: all }: RunRecord): string {
  if (all.length === 0) return '';
  const items = [...all].reverse().map(({ kind, step, text }) => {
    // The head says the step and the kind already.
    const words = text.replace(/^Step \d+: /, '');
    return `<li class="${moods[kind]}"><b>${escaped(kind[0]?.toUpperCase() + kind.slice(1))}</b> <span>step ${step.toLocaleString('en')}</span><p>${escaped(words[0]?.toUpperCase() + words.slice(1))}</p></li>`;
  });
  return `<section><h2>What the run says</h2><ul class="verdicts">${items.join('')}</ul></section>`;
}

async function imagesSection({ folder, sheets }: RunRecord): Promise<string> {
  const shown = thin(sheets, MOST_SHEETS);
  const newest = last(shown);
  if (newest === undefined) return '';
  // Of the reference image and the text alone, those of the newest sheet are enough.
  const drawn = newest.columns.slice(2);
  const cut = await Promise.all(
    shown.map(async (sheet) => {
      const { width, height } = sheet;
      const cells = sheet.rows.flatMap((_, row) =>
        sheet.columns.map((_, column) => ({ ...cellOrigin(sheet, row, column), width, height })),
      );
      const urls = await cutCells(join(folder, sheet.path), cells);
      return (row: string, column: string): string | undefined => {
        const [i, k] = [sheet.rows.indexOf(row), sheet.columns.indexOf(column)];
        return i < 0 || k < 0 ? undefined : urls[i * sheet.columns.length + k];
      };
    }),
  );
  const image = (url: string | undefined, alt: string): string =>
    url === undefined ? '<td></td>' : `<td><img src="${url}" alt="${escaped(alt)}" loading="lazy"></td>`;
  const body = newest.rows.map((row) => {
    const at = cut[cut.length - 1] as (typeof cut)[number];
    const [reference = '', alone = ''] = newest.columns;
    const lines = drawn.map((column, i) => {
      const first =
        i === 0
          ? `${image(at(row, reference), 'reference')}${image(at(row, alone), 'text alone')}`
          : '<td></td><td></td>';
      const steps = shown.map(({ step }, k) => image(cut[k]?.(row, column), `step ${step}, ${column}`));
      const name = drawn.length === 1 ? '' : `<th scope="row">${escaped(column)}</th>`;
      return `<tr>${first}${name}${steps.join('')}</tr>`;
    });
    return `<tbody><tr><th class="label" colspan="${3 + shown.length}">${escaped(row)}</th></tr>${lines.join('')}</tbody>`;
  });
  const heads = [
    'reference',
    'text alone',
    '',
    ...shown.map(({ step }) => `step ${step.toLocaleString('en')}`),
  ];
  return `<section><h2>As it learns</h2><p>The same references, seeds and noise after each validation.</p>
<div class="wide"><table class="images"><thead><tr>${heads.map((head) => `<th>${head}</th>`).join('')}</tr></thead>${body.join('')}</table></div></section>`;
}

function factsSection({ steps, rows, options, checkpoints, best, gains, folder }: RunRecord): string {
  const end = last(steps.filter((event) => event['speed/images_per_second'] !== undefined));
  const speed = end?.['speed/images_per_second'];
  const memory = end?.['memory/rss_bytes'];
  const list = (value: unknown): string => [value].flat().join(', ');
  const facts: [name: string, value: string][] = [
    ['dataset', list(options.dataset ?? '–')],
    ['rows trained on', rows === null ? 'no checkpoint says' : rows.toLocaleString('en')],
    ['rows held out', gains.length === 0 ? 'none' : String(last(gains)?.rows)],
    ['speed at the end', speed === undefined ? '–' : `${speed.toFixed(1)} images a second`],
    ['memory of the process', memory === undefined ? '–' : `${(memory / 2 ** 30).toFixed(2)} GiB`],
    ['checkpoints', checkpoints.length === 0 ? 'none yet' : checkpoints.join(', ')],
    ...(best
      ? [['best checkpoint', `${best.name}, by ${best.by} ${compact(best.value)}`] as [string, string]]
      : []),
    ['measure of the gain', gains.length === 0 ? 'none' : `${(last(gains)?.seconds ?? 0).toFixed(1)} s`],
  ];
  const table = (entries: [string, string][]): string =>
    `<dl>${entries.map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`).join('')}</dl>`;
  const settings = Object.entries(options).map(([name, value]): [string, string] => [name, list(value)]);
  const isWhole = existsSync(join(folder, 'config.yaml'));
  return `<section><h2>Data and run</h2>${table(facts)}</section>
<section><h2>Settings</h2>${isWhole ? `<details><summary>All ${settings.length} settings, as in config.yaml</summary>${table(settings)}</details>` : '<p>The folder has no config.yaml.</p>'}</section>`;
}

function signed(value: number): string {
  return `${value > 0 ? '+' : value < 0 ? '−' : ''}${Math.abs(value).toFixed(4)}`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(seconds / 3600).toFixed(1)} h`;
}
