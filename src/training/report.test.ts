import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { CheckpointError } from '../base/errors.js';
import type { GainEvent, Gains, VerdictEvent } from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';
import { writeRunReport } from './report.js';
import { barChart, lineChart, smoothed, thin } from './report-charts.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('shows a run from its folder alone: gain, scores, images, loss, gauge, settings', async () => {
  const options = world.optionsFor('run');
  await train({
    ...{ ...options, batchSize: 2, maxSteps: 4, saveSteps: 2, learningRate: 1e-3, keepBest: 'retrieval' },
    ...{ validationSteps: 2, validationSplit: 3, validationScores: 3, validationSamplingSteps: 2 },
    validationImages: [join(world.root, 'images', '0.png'), join(world.root, 'images', '1.png')],
    validationScales: [0.5, 1],
  });
  // Without tensors, and with a line of another program.
  const folder = join(world.root, 'run');
  for (const step of [2, 4])
    for (const file of ['ip_adapter', 'optimizer'])
      rmSync(join(folder, `checkpoint-${step}`, `${file}.safetensors`));
  writeFileSync(join(folder, 'metrics.jsonl'), 'not JSON\n', { flag: 'a' });
  const out = await writeRunReport(folder);
  const html = readFileSync(out, 'utf8').replaceAll(/base64,[^"]*/g, '');
  for (const title of [
    'Does it use the image?',
    'What comes out',
    'As it learns',
    'Loss',
    'Where the image acts',
    'Settings',
  ])
    expect(html).toContain(`<h2>${title}</h2>`);
  // Two references and their texts alone, and two scales at two steps.
  expect(html.match(/<img /g)).toHaveLength(2 * 2 + 2 * 2 * 2);
  for (const text of [
    'step 2',
    'step 4',
    'scale 0.5, seed 0',
    'checkpoint-4',
    'rows held out',
    'learning_rate',
  ])
    expect(html).toContain(text);
  // Offline: nothing is loaded, and no script runs.
  expect(/https?:\/\/|<script|<link|@import|url\(|NaN|undefined|Infinity/.exec(html)).toBeNull();
});

it('shows what the run says of itself, the newest first, and the gain by timestep with its intervals', async () => {
  const folder = join(world.root, 'told');
  mkdirSync(folder);
  const gains = (mean: number): Gains => {
    const at = (mean: number): Interval => ({ mean, low: mean - 0.01, high: mean + 0.03 });
    const loss = { right: 0.5, shuffled: 0.5, none: 0.5, base: 0.5 };
    return { loss, gain: at(mean), over_base: at(mean), over_none: at(2 * mean), specificity: at(4 * mean) };
  };
  const at = { v: 1, step: 1200, time: 1 } as const;
  const gain: GainEvent = {
    ...{ ...at, type: 'gain', rows: 32, seconds: 1, feature_spread: 1, gauge: {}, verdict: 'harms' },
    ...gains(0.02),
    bands: [
      { first: 0, end: 250, ...gains(-0.04) },
      { first: 250, end: 1000, ...gains(0.03) },
    ],
    text: { adapter: { mean: 0, low: 0, high: 0 }, base: { mean: 0, low: 0, high: 0 } },
  };
  const verdict = (step: number, kind: VerdictEvent['kind'], words: string): VerdictEvent => {
    return { ...at, type: 'verdict', step, kind, text: `Step ${step}: ${words}` };
  };
  const events = [
    { ...at, type: 'step', total_steps: 1200, loss: 0.5, grad_norm: 1 },
    verdict(100, 'harms', 'with a loss < 1 it is worse.'),
    gain,
    verdict(1200, 'uses the image', 'the adapter uses its image.'),
  ];
  writeFileSync(join(folder, 'metrics.jsonl'), events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  const html = readFileSync(await writeRunReport(folder), 'utf8');
  expect(html).toContain(
    '<section><h2>What the run says</h2><ul class="verdicts">' +
      '<li class="good"><b>Uses the image</b> <span>step 1,200</span><p>The adapter uses its image.</p></li>' +
      '<li class="bad"><b>Harms</b> <span>step 100</span><p>With a loss &lt; 1 it is worse.</p></li></ul></section>',
  );
  expect(html).toContain('<b>+0.0200</b><small>+0.0100 … +0.0500</small>');

  // Each bar: its range, where its interval lies between the ends of the chart, and its value.
  const bars = (title: string): string[][] => {
    const list = html.split(`<h3>${title}</h3>`)[1]?.split('</ul>')[0] ?? '';
    const bar = /<span>([^<]*)<\/span>.*?<u style="left:(.*?)%;width:(.*?)%">.*?<output>(.*?)<\/output>/g;
    return [...list.matchAll(bar)].map(([, ...figures]) => figures);
  };
  // The chart of these goes from −0.05 to 0.06.
  expect(bars('Without adapter')).toEqual([
    ['0–249', '0', '36.4', '-0.04'],
    ['250–999', '63.6', '36.4', '0.03'],
  ]);
  // From −0.09 to 0.09.
  expect(bars('Without image')).toEqual([
    ['0–249', '0', '22.2', '-0.08'],
    ['250–999', '77.8', '22.2', '0.06'],
  ]);
  // From −0.17 to 0.15.
  expect(bars("With another row's image")).toEqual([
    ['0–249', '0', '12.5', '-0.16'],
    ['250–999', '87.5', '12.5', '0.12'],
  ]);
});

it('needs no measures, and names what is no run', async () => {
  const folder = join(world.root, 'bare');
  mkdirSync(folder);
  await expect(writeRunReport(folder)).rejects.toThrow(CheckpointError);
  const step = { v: 1, type: 'step', step: 1, total_steps: 1, time: 1, loss: 0.5, grad_norm: 1 };
  writeFileSync(join(folder, 'metrics.jsonl'), '{"type":"other"}\n');
  await expect(writeRunReport(folder)).rejects.toThrow(/^Expected steps in .*bare/);
  writeFileSync(join(folder, 'metrics.jsonl'), `${JSON.stringify(step)}\n`);
  const out = join(world.root, 'bare.html');
  expect(await writeRunReport(folder, out)).toBe(out);
  expect(readFileSync(out, 'utf8')).not.toMatch(/NaN|undefined|Infinity|Does it use the image/);
});

describe('charts', () => {
  it('put values where the axis says', () => {
    const svg = lineChart([{ name: 'a', colour: 'red', points: [0, 5, 10].map((x) => ({ x, y: 2 * x })) }], {
      label: 'l',
    });
    const line = (y: string) =>
      Number(new RegExp(`y1="([\\d.]+)"[^>]*/><text[^>]*>${y}</text>`).exec(svg)?.[1]);
    const circles = [...svg.matchAll(/cy="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect(circles).toEqual([line('0'), line('10'), line('20')]);
    expect(lineChart([], { label: 'nothing' })).toBe('');
  });

  it('escape names', () => {
    expect(barChart([{ name: '<b>', y: 1 }], { label: '"' })).toContain('&lt;b>');
  });

  it('smooth without a beginning at 0, and thin to the ends', () => {
    const points = [1, 1, 1, 3].map((y, x) => ({ x, y }));
    const values = smoothed(points, 0.5).map(({ y }) => y);
    expect(values.slice(0, 3)).toEqual([1, 1, 1]);
    expect(values[3]).toBeGreaterThan(1.9);
    const some = thin(
      Array.from({ length: 1000 }, (_, i) => i),
      5,
    );
    expect([some.length, some[0], some.at(-1)]).toEqual([5, 0, 999]);
  });
});
