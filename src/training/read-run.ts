/** @file Reads the output folder of a run for its report: what it has logged, its options, and the state of its data. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { listCheckpoints } from '../adapters/adapter-path.js';
import { CheckpointError } from '../base/errors.js';
import type { GainEvent, ScoresEvent, SheetEvent, StepEvent, VerdictEvent } from '../base/run-context.js';
import { metricsFile, readMetrics } from './reports/metrics-file.js';

export interface RunRecord {
  /** The folder's name. */
  name: string;
  folder: string;
  steps: StepEvent[];
  gains: GainEvent[];
  scores: ScoresEvent[];
  verdicts: VerdictEvent[];
  /** Those whose file is there. */
  sheets: SheetEvent[];
  /** As config.yaml names them. */
  options: Record<string, unknown>;
  /** Rows that are trained on; null where no checkpoint says so. */
  rows: number | null;
  /** Names of the checkpoints, oldest first. */
  checkpoints: string[];
  /** The name of the best checkpoint, and by which measure; null without. */
  best: { name: string; by: string; value: number } | null;
}

/** @throws CheckpointError where the folder is not a run's */
export function readRun(folder: string): RunRecord {
  const file = join(folder, metricsFile);
  if (!existsSync(file))
    throw new CheckpointError(
      `Expected the output folder of a training run at ${folder} but it has no ${metricsFile}; give the --output-dir of train`,
    );
  const record: RunRecord = {
    ...{ name: basename(resolve(folder)), folder, options: optionsOf(folder) },
    ...{ steps: [], gains: [], scores: [], verdicts: [], sheets: [] },
    checkpoints: listCheckpoints(folder).map((path) => basename(path)),
    ...stateOf(folder),
  };
  for (const event of readMetrics(file)) {
    if (event.type === 'step') record.steps.push(event);
    if (event.type === 'gain') record.gains.push(event);
    if (event.type === 'scores') record.scores.push(event);
    if (event.type === 'verdict') record.verdicts.push(event);
    if (event.type === 'sheet' && existsSync(join(folder, event.path))) record.sheets.push(event);
  }
  // A sheet that was drawn again has two lines.
  record.sheets = [...new Map(record.sheets.map((sheet) => [sheet.step, sheet])).values()];
  if (record.steps.length === 0)
    throw new CheckpointError(
      `Expected steps in ${file} but there are none; the run has not taken a step, or the file is of another program`,
    );
  return record;
}

/** Returns what a run has measured after a step, if it has. */
export function measuredAt(
  folder: string,
  step: number,
): { gain: GainEvent | undefined; scores: ScoresEvent | undefined } {
  const file = join(folder, metricsFile);
  const events = existsSync(file) ? [...readMetrics(file)].filter((event) => event.step === step) : [];
  return {
    gain: events.findLast((event) => event.type === 'gain'),
    scores: events.findLast((event) => event.type === 'scores'),
  };
}

function optionsOf(folder: string): Record<string, unknown> {
  const file = join(folder, 'config.yaml');
  return existsSync(file) ? (parse(readFileSync(file, 'utf8')) as Record<string, unknown>) : {};
}

/** What the newest checkpoint says. */
function stateOf(folder: string): Pick<RunRecord, 'rows' | 'best'> {
  const newest = listCheckpoints(folder).at(-1);
  const file = newest && join(newest, 'training_state.json');
  if (file === undefined || !existsSync(file)) return { rows: null, best: null };
  const { dataset, best } = JSON.parse(readFileSync(file, 'utf8')) as {
    dataset?: { rows: number };
    best?: { by: string; step: number; value: number };
  };
  return {
    rows: dataset?.rows ?? null,
    best: best ? { name: `checkpoint-${best.step}`, by: best.by, value: best.value } : null,
  };
}
