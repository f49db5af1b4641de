/** @file Shows progress of training: a line that is updated in a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty';
import { SingleBar } from 'cli-progress';
import { formatDuration } from '../base/format-duration.js';
import { MovingAverage } from '../base/moving-average.js';
import type { RunEvent, StepEvent } from '../base/run-context.js';
import { Throttle } from '../base/throttle.js';

/** Decay per step of the loss's moving average, which spans about the last 50 steps. */
const lossDecay = 0.98;

export class TrainProgress {
  readonly #out: WriteStream;
  readonly #loss = new MovingAverage(lossDecay);
  /** Limits how often a line is written without a terminal. */
  readonly #plain = new Throttle();
  #bar: SingleBar | undefined;
  #images = 0;
  #seconds = 0;
  #steps = 0;
  /** Steps of the group whose speed is not known yet. */
  #unshown = 0;
  #isBegun = false;

  constructor(out: WriteStream) {
    this.#out = out;
  }

  /** Shows messages and steps. */
  readonly onEvent = (event: RunEvent): void => {
    if (event.type === 'message') this.#message(event.text);
    if (event.type === 'step') this.#stepDone(event);
  };

  #message(text: string): void {
    // The bar is drawn again below the message.
    if (this.#bar !== undefined) this.#out.write('\r\x1b[K');
    this.#out.write(`${text}\n`);
  }

  #stepDone(event: StepEvent): void {
    this.#loss.add(event.loss);
    this.#unshown++;
    const { 'speed/images_per_second': rate } = event;
    // The last step of a group has the speed of the whole group.
    if (rate === undefined) return;
    const steps = this.#unshown;
    const seconds = steps * (event['speed/step_seconds']! + event['speed/data_seconds']!);
    this.#unshown = 0;
    // The first group has the loading of the first images and whatever is only done once: it is not what lies ahead.
    const isFirst = !this.#isBegun;
    this.#isBegun = true;
    if (!isFirst) {
      this.#steps += steps;
      this.#seconds += seconds;
      this.#images += rate * seconds;
    }
    const { step, total_steps: totalSteps } = event;
    const left = (totalSteps - step) * (this.#seconds / this.#steps);
    const rates = Object.entries(event).flatMap(([name, value]) =>
      name.startsWith('lr/') ? [Number(value)] : [],
    );
    const figures = {
      loss: this.#loss.value.toFixed(4),
      // Parameter groups often have the same rate.
      lr: [...new Set(rates)].map((one) => one.toExponential(2)).join(' '),
      rate: (isFirst ? rate : this.#images / this.#seconds).toFixed(2),
      left: isFirst && step < totalSteps ? '?' : formatDuration(left || 0),
    };
    if (this.#out.isTTY) this.#draw(step, totalSteps, figures);
    else if (isFirst || this.#plain.isDue() || step === totalSteps)
      this.#out.write(
        `step ${step}/${totalSteps}  loss ${figures.loss}  lr ${figures.lr}  ${figures.rate} images/s  ${figures.left} left\n`,
      );
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
