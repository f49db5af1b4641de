/**
 * @file What a run leaves to be read: a line for each step in `metrics.jsonl`, and the same numbers by the same names in
 * TensorBoard's event files.
 *
 *     {"step": 12, "loss": 0.34, "grad_norm": 0.2, "lr/image_proj": 0.0001, "lr/ip_adapter": 0.0001}
 *
 * Steps after the checkpoint that a run resumes from are done again, and told again: their old lines go, and TensorBoard
 * forgets their old events.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type EncodedImage, EventFile, imageEvent, scalarsEvent } from './event-file.js';

export interface LogEntry {
  /** Seconds since 1970. */
  time: number;
  step: number;
  scalars: Record<string, number>;
}

export interface LogOptions {
  outputDir: string;
  reportTo: 'tensorboard' | 'none';
  /** Of the event files, inside `outputDir` where it is not absolute. */
  loggingDir: string;
}

export class RunLog implements Disposable {
  readonly #options: LogOptions;
  readonly #firstStep: number;
  #hasBegun = false;
  #events: EventFile | undefined;

  /** Files are made with the first entry. @param firstStep the first step that this start of the run does */
  constructor(options: LogOptions, firstStep: number) {
    this.#options = options;
    this.#firstStep = firstStep;
  }

  get #metricsFile(): string {
    return join(this.#options.outputDir, 'metrics.jsonl');
  }

  write(entries: readonly LogEntry[]): void {
    if (!this.#hasBegun) this.#begin();
    const lines = entries.map(({ step, scalars }) => `${JSON.stringify({ step, ...scalars })}\n`);
    appendFileSync(this.#metricsFile, lines.join(''));
    this.#events?.write(entries.map(({ time, step, scalars }) => scalarsEvent(time, step, scalars)));
  }

  /** Shows a picture in TensorBoard. */
  image(step: number, tag: string, image: EncodedImage): void {
    if (!this.#hasBegun) this.#begin();
    this.#events?.write([imageEvent(Date.now() / 1000, step, tag, image)]);
  }

  #begin(): void {
    const { outputDir, reportTo, loggingDir } = this.#options;
    mkdirSync(outputDir, { recursive: true });
    const file = this.#metricsFile;
    const before = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
    const kept = before.filter((line) => line.endsWith('}') && JSON.parse(line).step < this.#firstStep);
    writeFileSync(file, kept.map((line) => `${line}\n`).join(''));
    if (reportTo === 'tensorboard')
      this.#events = new EventFile(resolve(outputDir, loggingDir), this.#firstStep);
    this.#hasBegun = true;
  }

  [Symbol.dispose](): void {
    this.#events?.[Symbol.dispose]();
  }
}
