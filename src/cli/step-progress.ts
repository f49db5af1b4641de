/** @file Shows progress of work in steps: a line that is updated in a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty';
import { SingleBar } from 'cli-progress';
import { formatDuration } from '../base/format-duration.js';
import type { RunEvent } from '../base/run-context.js';
import { Throttle } from '../base/throttle.js';

export class StepProgress {
  readonly #out: WriteStream;
  readonly #start = performance.now();
  /** Limits how often a line is written without a terminal. */
  readonly #plain = new Throttle();
  #bar: SingleBar | undefined;

  constructor(out: WriteStream) {
    this.#out = out;
  }

  /** Shows messages and progress. */
  readonly onEvent = (event: RunEvent): void => {
    showMessage(event);
    if (event.type !== 'progress') return;
    const { done: step, total: totalSteps } = event;
    const seconds = (performance.now() - this.#start) / 1000;
    const left = formatDuration((seconds * (totalSteps - step)) / step);
    if (this.#out.isTTY) this.#draw(step, totalSteps, left);
    else if (this.#plain.isDue()) this.#out.write(`step ${step}/${totalSteps}  ${left} left\n`);
  };

  #draw(step: number, totalSteps: number, left: string): void {
    if (this.#bar === undefined) {
      const format = '{bar} step {value}/{total}  {left} left';
      this.#bar = new SingleBar({ format, stream: this.#out, hideCursor: true });
      this.#bar.start(totalSteps, step, { left });
    } else this.#bar.update(step, { left });
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** Writes messages to standard error. */
function showMessage(event: RunEvent): void {
  if (event.type === 'message') process.stderr.write(`${event.text}\n`);
}
