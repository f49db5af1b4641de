/**
 * @file `metrics.jsonl`: a line of JSON for each step, with its number as `step`. Whole lines only, and none is lost where
 * the disk is full for a while.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { writeFileAtomically } from '../../base/atomic-file.js';
import { isSystemError } from '../../base/errors.js';
import { makeFolder } from '../../base/make-folder.js';

export class MetricsFile {
  readonly #path: string;
  readonly #firstStep: number;
  readonly #onMessage: ((message: string) => void) | undefined;
  #isBegun = false;
  /** Lines that could not be written yet. */
  #pending: string[] = [];
  #isFailing = false;

  /** @param firstStep the step that the run starts from: what was told of later ones is told again */
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
      this.#isFailing = false;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (!this.#isFailing)
        this.#onMessage?.(`${this.#path} waits until it can be written again: ${error.message}`);
      this.#isFailing = true;
    }
  }

  #begin(): void {
    makeFolder(dirname(this.#path));
    const before = existsSync(this.#path) ? readFileSync(this.#path, 'utf8').split('\n') : [];
    const kept = before.filter((line) => stepOf(line) <= this.#firstStep);
    writeFileAtomically(this.#path, (append) =>
      append(Buffer.from(kept.map((line) => `${line}\n`).join(''))),
    );
  }

  #write(text: string): void {
    const file = openSync(this.#path, 'a');
    const { size } = fstatSync(file);
    try {
      writeFileSync(file, text);
    } catch (error) {
      ftruncateSync(file, size);
      throw error;
    } finally {
      closeSync(file);
    }
  }
}

/** NaN for what is no whole line: a run that was killed may have left half of one. */
function stepOf(line: string): number {
  try {
    return Number(JSON.parse(line).step);
  } catch {
    return Number.NaN;
  }
}
