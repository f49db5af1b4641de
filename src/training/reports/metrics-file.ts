/**
 * @file `metrics.jsonl`: a line of JSON for each step, with its number as `step`. It holds whole lines only, and none is
 * lost where the disk is full for a while.
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { writeAll, writeFileAtomically } from '../../base/atomic-file.js';
import { isSystemError, TrainingError } from '../../base/errors.js';
import { makeFolder } from '../../base/make-folder.js';
import type {
  GainEvent,
  RequestEvent,
  ScoresEvent,
  SheetEvent,
  StepEvent,
  VerdictEvent,
} from '../../base/run-context.js';

/** A line that is not a step. */
export type MeasureEvent = GainEvent | RequestEvent | ScoresEvent | VerdictEvent | SheetEvent;
export type LoggedEvent = StepEvent | MeasureEvent;

export class MetricsFile {
  readonly #path: string;
  readonly #firstStep: number;
  readonly #onMessage: ((message: string) => void) | undefined;
  #isBegun = false;
  /** Lines that could not be written yet. */
  #pending: string[] = [];
  /** Why the last attempt to write failed. */
  #fault: Error | undefined;

  /** @param firstStep the step that the run starts from: lines of later steps are written again */
  constructor(path: string, firstStep: number, onMessage?: (message: string) => void) {
    this.#path = path;
    this.#firstStep = firstStep;
    this.#onMessage = onMessage;
  }

  append(entries: readonly object[]): void {
    this.#pending.push(...entries.map((entry) => `${JSON.stringify(entry)}\n`));
    try {
      if (!this.#isBegun) this.#begin();
      this.#isBegun = true;
      this.#write(this.#pending.join(''));
      this.#pending = [];
      this.#fault = undefined;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (this.#fault === undefined)
        this.#onMessage?.(`${this.#path} waits until it can be written again: ${error.message}`);
      this.#fault = error;
    }
  }

  /**
   * Tries for the last time to write the pending lines.
   * @throws TrainingError where that fails: a run whose log is incomplete must not succeed
   */
  finish(): void {
    if (this.#pending.length > 0) this.append([]);
    if (this.#pending.length > 0)
      throw new TrainingError(
        `The training is complete and its checkpoint is whole, but the last ${this.#pending.length} lines of ${this.#path} could not be written: ${this.#fault?.message}`,
      );
  }

  /** Keeps the whole lines up to the first step. */
  #begin(): void {
    makeFolder(dirname(this.#path));
    writeFileAtomically(this.#path, (append) => {
      if (!existsSync(this.#path)) return;
      for (const line of linesOf(this.#path)) if (stepOf(line) <= this.#firstStep) append(line);
    });
  }

  #write(text: string): void {
    const file = openSync(this.#path, 'a');
    try {
      const { size } = fstatSync(file);
      try {
        writeAll(file, Buffer.from(text));
      } catch (error) {
        ftruncateSync(file, size);
        throw error;
      }
    } finally {
      closeSync(file);
    }
  }
}

/** The name of the file in an output folder. */
export const metricsFile = 'metrics.jsonl';

/** Yields the events of a metrics file; lines that are none are left out. */
export function* readMetrics(path: string): Generator<LoggedEvent> {
  for (const line of linesOf(path)) {
    try {
      yield JSON.parse(line.toString()) as LoggedEvent;
    } catch {
      // The file of another program, or one that was cut.
    }
  }
}

const PIECE_BYTES = 2 ** 20;

/** Yields the complete lines of a file, each with its newline. The file may be larger than the longest possible string. */
function* linesOf(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (;;) {
      const piece = Buffer.allocUnsafe(PIECE_BYTES);
      const length = readSync(file, piece);
      if (length === 0) return;
      // A line of this length was not written by this package.
      const text = Buffer.concat([
        rest.length > PIECE_BYTES ? Buffer.from('-') : rest,
        piece.subarray(0, length),
      ]);
      let start = 0;
      for (let end = text.indexOf(10); end !== -1; end = text.indexOf(10, start)) {
        yield text.subarray(start, end + 1);
        start = end + 1;
      }
      rest = text.subarray(start);
    }
  } finally {
    closeSync(file);
  }
}

/** Returns the step of a line; NaN where it is not a line of a metrics file. */
function stepOf(line: Buffer): number {
  try {
    return Number(JSON.parse(line.toString()).step);
  } catch {
    return Number.NaN;
  }
}
