/** @file Progress of work in steps: one line that moves in a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty';
import { SingleBar } from 'cli-progress';
import { duration } from './progress.js';

/** Without a terminal, a line at most so often. */
const plainIntervalMs = 5000;

export class StepProgress {
  readonly #out: WriteStream;
  readonly #start = performance.now();
  #bar: SingleBar | undefined;
  #lastLine = this.#start;

  constructor(out: WriteStream) {
    this.#out = out;
  }

  /** `step` of `totalSteps` is done. */
  update({ step, totalSteps }: { step: number; totalSteps: number }): void {
    const seconds = (performance.now() - this.#start) / 1000;
    const left = duration((seconds * (totalSteps - step)) / step);
    if (this.#out.isTTY) this.#draw(step, totalSteps, left);
    else if (performance.now() - this.#lastLine >= plainIntervalMs) {
      this.#lastLine = performance.now();
      this.#out.write(`step ${step}/${totalSteps}  ${left} left\n`);
    }
  }

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
