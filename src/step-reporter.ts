/**
 * @file What a run tells of itself while it goes: losses, to the caller and to `metrics.jsonl`, and rows that were
 * skipped. Seldom enough that waiting for the device, which reading a loss means, does not matter.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BadRow } from './data/bad-rows.js';
import { stack, type Tensor, tidy } from './torch/index.js';

export interface ReportHooks {
  /** Something happened that a person may want to know. */
  onMessage?: (message: string) => void;
  /** Steps were done; called about twice a second. */
  onSteps?: (report: StepsReport) => void;
}

export interface StepsReport {
  /** Optimizer steps done, of all. */
  step: number;
  totalSteps: number;
  /** The loss of each step since the last report. */
  losses: number[];
  /** Pictures since the last report. */
  images: number;
  /** Time since the last report, or since the first step began. */
  seconds: number;
}

const intervalMs = 500;

export class StepReporter {
  readonly #metricsFile: string;
  readonly #hooks: ReportHooks;
  readonly #badRows: ReadonlyMap<number, BadRow>;
  readonly #totalSteps: number;
  readonly #firstStep: number;
  #step: number;
  #losses: Tensor[] = [];
  #images = 0;
  #lastFlush = performance.now();
  #toldBadRows = 0;

  /** @param badRows grows while rows are read @param at the step that the run starts from, and all it will have */
  constructor(
    outputDir: string,
    hooks: ReportHooks,
    badRows: ReadonlyMap<number, BadRow>,
    at: { step: number; totalSteps: number },
  ) {
    this.#metricsFile = join(outputDir, 'metrics.jsonl');
    this.#hooks = hooks;
    this.#badRows = badRows;
    this.#totalSteps = at.totalSteps;
    this.#firstStep = at.step;
    this.#step = at.step;
  }

  /** Takes over the loss of the step that was just done. */
  add(loss: Tensor, images: number): void {
    this.#losses.push(loss);
    this.#images += images;
    this.#step++;
    if (performance.now() - this.#lastFlush >= intervalMs) this.flush();
  }

  flush(): void {
    for (const { file, reason } of [...this.#badRows.values()].slice(this.#toldBadRows))
      this.#hooks.onMessage?.(`Skipped ${file}: ${reason}`);
    this.#toldBadRows = this.#badRows.size;
    if (this.#losses.length === 0) return;
    const losses = tidy(() => stack(this.#losses).toNumbers());
    for (const loss of this.#losses) loss.dispose();
    this.#write(losses);
    const now = performance.now();
    const seconds = (now - this.#lastFlush) / 1000;
    this.#hooks.onSteps?.({
      step: this.#step,
      totalSteps: this.#totalSteps,
      losses,
      images: this.#images,
      seconds,
    });
    this.#losses = [];
    this.#images = 0;
    this.#lastFlush = now;
  }

  /** A line for each step: `{"step": 12, "loss": 0.34}`. */
  #write(losses: readonly number[]): void {
    const first = this.#step - losses.length + 1;
    if (first === this.#firstStep + 1) this.#begin();
    const lines = losses.map((loss, i) => `${JSON.stringify({ step: first + i, loss })}\n`);
    appendFileSync(this.#metricsFile, lines.join(''));
  }

  // Steps after the checkpoint that a run resumes from are done again, and told again.
  #begin(): void {
    mkdirSync(join(this.#metricsFile, '..'), { recursive: true });
    const before = existsSync(this.#metricsFile) ? readFileSync(this.#metricsFile, 'utf8').split('\n') : [];
    const kept = before.filter((line) => line.endsWith('}') && JSON.parse(line).step <= this.#firstStep);
    writeFileSync(this.#metricsFile, kept.map((line) => `${line}\n`).join(''));
  }
}
