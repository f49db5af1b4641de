import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { CheckpointError } from '../base/errors.js';
import { writeRunReport } from './report.js';
import { barChart, lineChart, smoothed, thin } from './report-charts.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

it('shows a run from its folder alone: verdicts, gain, scores, images, loss, gauge, settings', async () => {
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
