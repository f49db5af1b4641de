/** @file The runs below a folder: every output folder of a training, whoever started it. */
import { existsSync } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { parse } from 'yaml';
import { listCheckpoints, stepOf } from '../adapters/adapter-path.js';
import type { GainEvent, VerdictEvent } from '../base/run-context.js';
import { runStateOf } from '../training/checkpoints/run-state.js';
import { openRunFile } from './folders.js';
import { RunMetrics } from './metrics.js';
import { samplesOf } from './sheets.js';

/** How deep runs may lie below the folder, and how many are shown. */
const MAX_DEPTH = 3;
const MAX_RUNS = 1000;
/** Folders of a run, and others without runs. */
const skipped = /^(\..*|checkpoint-\d+|cache|logs|validation|control|node_modules)$/;
/** The curves of so many runs are kept. */
const KEPT_RUNS = 8;
const SCAN_MS = 1000;

export type RunStatus = 'queued' | 'running' | 'finished' | 'stopped' | 'failed' | 'new';

export interface RunSummary {
  /** The path below the folder of runs. */
  id: string;
  status: RunStatus;
  step: number;
  totalSteps: number;
  loss: number | null;
  stepSeconds: number | null;
  secondsLeft: number | null;
  /** The last measurement of held-out rows, and the step with the best. */
  gain: { step: number; mean: number; low: number; high: number } | null;
  bestGain: { step: number; value: number } | null;
  verdict: string | null;
  /** The last verdict of any kind. */
  said: Pick<VerdictEvent, 'step' | 'kind' | 'text'> | null;
  /** The step of the last sheet of validation images. */
  sample: number | null;
  checkpoints: number;
  /** When the last step was done, seconds since 1970. */
  time: number | null;
  /** Process and host of a running one. */
  owner: string | null;
}

/** What `metrics.jsonl` says of a run, and the file that said it: most runs have ended, and theirs is read once. */
interface Digest
  extends Pick<
    RunSummary,
    'step' | 'totalSteps' | 'loss' | 'stepSeconds' | 'gain' | 'bestGain' | 'verdict' | 'said' | 'time'
  > {
  file: string;
}

export interface CheckpointInfo {
  step: number;
  bytes: number;
}

export class Runs {
  readonly folder: string;
  readonly #metrics = new Map<string, RunMetrics>();
  readonly #digests = new Map<string, Digest>();
  #scanned: { at: number; ids: Promise<string[]> } | undefined;

  /** @param folder an absolute path */
  constructor(folder: string) {
    this.folder = folder;
  }

  /** Returns the ids of all runs. */
  ids(): Promise<string[]> {
    if (this.#scanned === undefined || performance.now() - this.#scanned.at > SCAN_MS)
      this.#scanned = { at: performance.now(), ids: this.#scan() };
    return this.#scanned.ids;
  }

  forget(): void {
    this.#scanned = undefined;
  }

  /**
   * Returns the output folder of a run. Only ids that the scan has found are known, so no path of a request is ever opened.
   * @returns undefined where there is no such run
   */
  async pathOf(id: string): Promise<string | undefined> {
    if (!(await this.ids()).includes(id)) return undefined;
    return join(this.folder, id);
  }

  async #scan(): Promise<string[]> {
    const found: string[] = [];
    const root = await realpath(this.folder);
    const visit = async (folder: string, depth: number): Promise<void> => {
      const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
      const isRun = entries.some(
        ({ name }) => name === 'metrics.jsonl' || name === 'config.yaml' || name === 'studio-options.json',
      );
      if (isRun && depth > 0) found.push(relative(root, folder).split(sep).join('/'));
      if (isRun && depth > 0) return;
      if (depth === MAX_DEPTH || found.length >= MAX_RUNS) return;
      // Links are not followed: they may lead out.
      for (const entry of entries)
        if (entry.isDirectory() && !skipped.test(entry.name))
          await visit(join(folder, entry.name), depth + 1);
    };
    await visit(root, 0);
    return found.sort();
  }

  /** Returns the curves of a run, read up to now. */
  async metricsOf(id: string): Promise<RunMetrics> {
    const known = this.#metrics.get(id) ?? new RunMetrics(join(this.folder, id, 'metrics.jsonl'));
    // The map is in the order of use.
    this.#metrics.delete(id);
    this.#metrics.set(id, known);
    if (this.#metrics.size > KEPT_RUNS) this.#metrics.delete(this.#metrics.keys().next().value as string);
    await known.update();
    return known;
  }

  /** @param queued what the queue says of it; a run that it has not started is as its files say */
  async summaryOf(id: string, queued?: 'queued' | 'running' | 'failed'): Promise<RunSummary> {
    const folder = join(this.folder, id);
    const { file: _, ...digest } = await this.#digestOf(id);
    const { step, totalSteps, stepSeconds } = digest;
    const { isRunning, owner } = runStateOf(folder);
    const checkpoints = listCheckpoints(folder);
    const isFinished = step > 0 && step >= totalSteps && checkpoints.some((path) => stepOf(path) === step);
    const status: RunStatus = isRunning
      ? 'running'
      : (queued ?? (isFinished ? 'finished' : step > 0 || checkpoints.length > 0 ? 'stopped' : 'new'));
    return {
      ...{ id, status, ...digest },
      secondsLeft: isRunning && stepSeconds !== null ? (totalSteps - step) * stepSeconds : null,
      sample: (await samplesOf(folder)).at(-1) ?? null,
      checkpoints: checkpoints.length,
      owner: isRunning ? (owner ?? null) : null,
    };
  }

  async #digestOf(id: string): Promise<Digest> {
    const status = await lstat(join(this.folder, id, 'metrics.jsonl')).catch(() => undefined);
    const file = status === undefined ? '' : `${status.ino} ${status.size}`;
    const known = this.#digests.get(id);
    if (known?.file === file) return known;
    const { last, series, events, stepSeconds = null } = await this.metricsOf(id);
    const measured = events.findLast((event): event is GainEvent => event.type === 'gain');
    const said = events.findLast((event): event is VerdictEvent => event.type === 'verdict');
    const digest = {
      ...{ file, stepSeconds },
      step: last?.step ?? 0,
      totalSteps: last?.total_steps ?? 0,
      loss: last?.loss ?? null,
      gain: measured?.gain === undefined ? null : { step: measured.step, ...measured.gain },
      bestGain: series.get('gain')?.largest ?? null,
      verdict: measured?.verdict ?? null,
      said: said === undefined ? null : { step: said.step, kind: said.kind, text: said.text },
      time: last?.time ?? null,
    };
    this.#digests.set(id, digest);
    return digest;
  }
}

export async function checkpointsOf(folder: string): Promise<CheckpointInfo[]> {
  const paths = existsSync(folder) ? listCheckpoints(folder) : [];
  return Promise.all(
    paths.map(async (path) => {
      const names = await readdir(path).catch(() => []);
      const sizes = await Promise.all(
        names.map(async (name) => (await stat(join(path, name)).catch(() => undefined))?.size ?? 0),
      );
      return { step: stepOf(path), bytes: sizes.reduce((sum, size) => sum + size, 0) };
    }),
  );
}

/** Returns the options that a run has recorded, in snake_case; null where it has none yet. */
export async function recordedOptions(folder: string): Promise<Record<string, unknown> | null> {
  for (const name of ['config.yaml', 'studio-options.json']) {
    const handle = await openRunFile(join(folder, name));
    if (handle === undefined) continue;
    const text = await handle.readFile('utf8').finally(() => handle.close());
    try {
      const options = parse(text);
      if (typeof options === 'object' && options !== null) return options;
    } catch {
      // A file that is being written by hand.
    }
  }
  return null;
}
