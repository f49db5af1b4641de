import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readRun } from '../../../test/read-events.js';
import type { StepEvent } from '../../base/run-context.js';
import { memoryStats, tensor } from '../../torch/index.js';
import { type StepMetrics, StepReporter } from './step-reporter.js';

let outputDir: string;
beforeEach(() => {
  outputDir = mkdtempSync(join(tmpdir(), 'reporter-'));
});
afterEach(() => rmSync(outputDir, { recursive: true }));

const reports: StepEvent[] = [];
function open(step = 0): StepReporter {
  reports.length = 0;
  return new StepReporter(
    { outputDir, reportTo: 'tensorboard', loggingDir: 'logs' },
    { emit: (event) => void reports.push(event as StepEvent), onMessage: () => undefined },
    new Map(),
    { step, totalSteps: 100, numTrainTimesteps: 1000, device: 'cpu' },
  );
}

const metrics = (rows: number[], timesteps: number[], gradNorm: number): StepMetrics => ({
  loss: tensor([rows.reduce((sum, row) => sum + row) / rows.length], []),
  rowLosses: tensor(rows, [rows.length]),
  timesteps: tensor(timesteps, [timesteps.length], 'int64'),
  gradNorm: tensor([gradNorm], []),
  learningRates: { image_proj: 0.5, ip_adapter: 0.25 },
});

const lines = (): Record<string, number>[] =>
  readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

it('tells every step, and what belongs to the interval with its last step', () => {
  const before = memoryStats().liveTensors;
  using reporter = open(4);
  reporter.add(metrics([1, 2], [5, 995], 8), 2);
  reporter.add(metrics([4], [7], 16), 1);
  expect(memoryStats().liveTensors).toBe(before + 8);
  expect(reports).toEqual([]);
  reporter.flush();
  expect(memoryStats().liveTensors).toBe(before);

  const [first, second] = lines();
  const rates = { 'lr/image_proj': 0.5, 'lr/ip_adapter': 0.25 };
  expect(first).toEqual({
    ...{ v: 1, type: 'step', step: 5, total_steps: 100, time: expect.any(Number) },
    ...{ loss: 1.5, ...rates, grad_norm: 8 },
  });
  expect(Math.abs(Date.now() / 1000 - (first?.time ?? 0))).toBeLessThan(60);
  expect(second).toMatchObject({ step: 6, loss: 4, ...rates, grad_norm: 16 });
  expect(second?.['loss_by_timestep/000-099']).toBeCloseTo((0.99 * 1 + 4) / 1.99, 6);
  expect(second?.['loss_by_timestep/900-999']).toBeCloseTo(2, 6);
  expect(Object.keys(second ?? {}).filter((name) => /^(speed|memory)/.test(name))).toEqual([
    'speed/images_per_second',
    'speed/data_seconds',
    'speed/step_seconds',
    'memory/cpu_allocated_bytes',
    'memory/cpu_peak_bytes',
    'memory/rss_bytes',
  ]);
  expect(second?.['memory/rss_bytes']).toBeGreaterThan(2 ** 25);

  expect(reports).toEqual(lines());
  const events = readRun(join(outputDir, 'logs'));
  for (const [i, { v: _, type: __, total_steps: ___, time: ____, step, ...scalars }] of lines().entries())
    expect(events[i]).toMatchObject({
      step,
      scalars: Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, Math.fround(value)])),
    });
});

it('tells apart the time that batches are waited for, and leaves out what is no training', async () => {
  async function* batches(): AsyncGenerator<number> {
    for (const batch of [1, 2]) {
      await setTimeout(60);
      yield batch;
    }
  }
  using reporter = open();
  const seen: number[] = [];
  for await (const batch of reporter.timed(batches())) {
    seen.push(batch);
    await setTimeout(20);
    reporter.add(metrics([1], [0], 1), 3);
  }
  await reporter.untimed(() => setTimeout(700).then(() => undefined));
  expect(seen).toEqual([1, 2]);
  const { 'speed/data_seconds': data = 0, 'speed/step_seconds': step = 0, ...rest } = lines()[1] ?? {};
  expect(data).toBeGreaterThan(0.055);
  expect(data).toBeLessThan(0.2);
  expect(step).toBeGreaterThan(0.015);
  expect(rest['speed/images_per_second']).toBeCloseTo(3 / (data + step), 6);
  reporter.add(metrics([1], [0], 1), 1);
  reporter.flush();
  expect(reports[2]?.['speed/images_per_second']).toBeGreaterThan(1 / 0.6);
});

it('reports by itself once half a second has passed', async () => {
  using reporter = open();
  reporter.add(metrics([1], [0], 1), 1);
  await setTimeout(520);
  reporter.add(metrics([1], [0], 1), 1);
  expect(reports.map(({ step }) => step)).toEqual([1, 2]);
});
