/** @file Progress of training: one line that moves in a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty';
import { SingleBar } from 'cli-progress';
import { MovingAverage } from '../base/moving-average.js';
import type { StepsReport } from '../training/reports/step-reporter.js';

/** Without a terminal, a line at most so often. */
const plainIntervalMs = 5000;
/** Of a step; about the last fifty steps count. */
const lossDecay = 0.98;

export class TrainProgress {
  readonly #out: WriteStream;
  readonly #loss = new MovingAverage(lossDecay);
  #bar: SingleBar | undefined;
  #isBegun = false;
  #images = 0;
  #seconds = 0;
  #steps = 0;
  #lastLine = Number.NEGATIVE_INFINITY;

  constructor(out: WriteStream) {
    this.#out = out;
  }

  message(text: string): void {
    // The bar draws itself anew below the message.
    if (this.#bar !== undefined) this.#out.write('\r\x1b[K');
    this.#out.write(`${text}\n`);
  }

  steps({ step, totalSteps, losses, learningRates, images, seconds }: StepsReport): void {
    for (const loss of losses) this.#loss.add(loss);
    // The first report has the loading of the first images and whatever is only done once: it is not what lies ahead.
    const isFirst = !this.#isBegun;
    this.#isBegun = true;
    if (!isFirst) {
      this.#images += images;
      this.#steps += losses.length;
      this.#seconds += seconds;
    }
    const left = (totalSteps - step) * (this.#seconds / this.#steps);
    const figures = {
      loss: this.#loss.value.toFixed(4),
      // Groups often have the same.
      lr: [...new Set(Object.values(learningRates))].map((rate) => rate.toExponential(2)).join(' '),
      rate: (isFirst ? images / seconds : this.#images / this.#seconds).toFixed(2),
      left: isFirst && step < totalSteps ? '?' : duration(left || 0),
    };
    if (this.#out.isTTY) this.#draw(step, totalSteps, figures);
    else if (performance.now() - this.#lastLine >= plainIntervalMs || step === totalSteps) {
      this.#lastLine = performance.now();
      this.#out.write(
        `step ${step}/${totalSteps}  loss ${figures.loss}  lr ${figures.lr}  ${figures.rate} images/s  ${figures.left} left\n`,
      );
    }
  }

  #draw(step: number, totalSteps: number, figures: Record<string, string>): void {
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: '{bar} step {value}/{total}  loss {loss}  lr {lr}  {rate} images/s  {left} left',
        stream: this.#out,
        hideCursor: true,
      });
      this.#bar.start(totalSteps, step, figures);
    } else this.#bar.update(step, figures);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** 3725 → '1:02:05' */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = `${String(minutes).padStart(hours > 0 ? 2 : 1, '0')}:${String(whole % 60).padStart(2, '0')}`;
  return hours > 0 ? `${hours}:${tail}` : tail;
}
