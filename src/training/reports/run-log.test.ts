import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readRun } from '../../../test/read-events.js';
import type { GainEvent, Gains, StepEvent } from '../../base/run-context.js';
import { type LogOptions, RunLog } from './run-log.js';

let outputDir: string;
let options: LogOptions;
beforeEach(() => {
  outputDir = join(mkdtempSync(join(tmpdir(), 'log-')), 'out');
  options = { outputDir, reportTo: 'tensorboard', loggingDir: 'logs' };
});
afterEach(() => rmSync(join(outputDir, '..'), { recursive: true }));

const entry = (step: number, loss: number): StepEvent => ({
  ...{ v: 1, type: 'step', step, total_steps: 9, time: step },
  ...{ loss, grad_norm: 2, 'lr/ip_adapter': 0.5 },
});
/** As an event file has it. */
const inEvents = ({ step, time, loss, grad_norm }: StepEvent) => ({
  ...{ time, step },
  scalars: { loss, grad_norm, 'lr/ip_adapter': 0.5 },
});
const lines = (): unknown[] =>
  readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const shown = (folder: string): unknown[] =>
  readRun(folder).map(({ time, step, scalars }) => ({ time, step, scalars }));

it('says the same in both places', () => {
  const entries = [entry(1, 0.5), entry(2, 0.25)];
  {
    using log = new RunLog(options, 1);
    expect(existsSync(outputDir)).toBe(false);
    log.write(entries);
  }
  expect(lines()).toEqual(entries);
  expect(shown(join(outputDir, 'logs'))).toEqual(entries.map(inEvents));
});

it('of a resumed run replaces what is done again, and a line that a kill cut off', () => {
  {
    using log = new RunLog(options, 1);
    log.write([entry(1, 1), entry(2, 2), entry(3, 3)]);
  }
  appendFileSync(join(outputDir, 'metrics.jsonl'), '{"step":4,"lo');
  {
    using log = new RunLog(options, 3);
    log.write([entry(3, 30)]);
  }
  const expected = [entry(1, 1), entry(2, 2), entry(3, 30)];
  expect(lines()).toEqual(expected);
  expect(shown(join(outputDir, 'logs'))).toEqual(expected.map(inEvents));
});

it('writes event files where it is told, or none', () => {
  const elsewhere = join(outputDir, '..', 'elsewhere');
  for (const loggingDir of ['inside/it', elsewhere]) {
    using log = new RunLog({ ...options, loggingDir }, 1);
    log.write([entry(1, 1)]);
  }
  expect(shown(join(outputDir, 'inside', 'it'))).toEqual([inEvents(entry(1, 1))]);
  expect(shown(elsewhere)).toEqual([inEvents(entry(1, 1))]);
  rmSync(outputDir, { recursive: true });
  using log = new RunLog({ ...options, reportTo: 'none' }, 1);
  log.write([entry(1, 1)]);
  log.image(1, 'image', { png: new Uint8Array(3), width: 1, height: 1 });
  expect(readdirSync(outputDir)).toEqual(['metrics.jsonl']);
});

it('shows every figure of a gain in TensorBoard: intervals, ranges of timesteps, the gauge', () => {
  // Halves, which float32 holds.
  const around = (mean: number) => ({ mean, low: mean - 0.5, high: mean + 0.5 });
  const gains = (first: number): Gains => ({
    loss: { right: first, shuffled: first + 1, none: first + 2, base: first + 3 },
    ...{ gain: around(first), over_none: around(first + 1) },
    ...{ over_base: around(first + 2), specificity: around(first + 3) },
  });
  const event: GainEvent = {
    ...{ v: 1, type: 'gain', step: 2, time: 3, rows: 4, seconds: 5, verdict: 'unclear' },
    ...gains(10),
    bands: [
      { first: 0, end: 50, ...gains(20) },
      { first: 50, end: 1000, ...gains(30) },
    ],
    gauge: { 'down.0': 0.25, 'mid.0': 2 },
    text: { adapter: around(40), base: around(41) },
    feature_spread: 0.75,
  };
  {
    using log = new RunLog(options, 1);
    log.measure(event);
  }
  const intervals = (name: string, mean: number) => ({
    ...{ [name]: mean, [`${name}/low`]: mean - 0.5, [`${name}/high`]: mean + 0.5 },
  });
  const parts = (name: string, first: number) => ({
    ...intervals(name, first),
    ...intervals(`${name}/over_none`, first + 1),
    ...intervals(`${name}/over_base`, first + 2),
    ...intervals(`${name}/specificity`, first + 3),
  });
  const scalars = {
    ...parts('gain', 10),
    ...{ 'gain/loss/right': 10, 'gain/loss/shuffled': 11, 'gain/loss/none': 12, 'gain/loss/base': 13 },
    ...intervals('gain/text/adapter', 40),
    ...intervals('gain/text/base', 41),
    'gain/feature_spread': 0.75,
    ...parts('gain_by_timestep/000-049', 20),
    ...parts('gain_by_timestep/050-999', 30),
    ...{ 'gauge/down.0': 0.25, 'gauge/mid.0': 2 },
  };
  expect(shown(join(outputDir, 'logs'))).toEqual([{ time: 3, step: 2, scalars }]);
  expect(lines()).toEqual([event]);
});
