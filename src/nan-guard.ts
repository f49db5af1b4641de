/**
 * @file Keeps NaN and infinity out of the weights: looks at each step's loss and gradients before the update. One such
 * update would spoil every weight, and every checkpoint from then on.
 */
import { TrainingError } from './errors.js';
import { firstNonFinite } from './finite.js';
import type { Tensor } from './torch/index.js';

/** What a message tells of a step. */
interface StepDetails {
  /** From 1. */
  step: number;
  /** int64 [b] */
  timesteps: Tensor;
  /** Indices into the dataset. */
  rows: readonly number[];
}

export class NanGuard {
  readonly #limit: number;
  readonly #nameOf: (row: number) => string;
  readonly #onMessage: ((message: string) => void) | undefined;
  #skipped = 0;

  /** @param limit steps that may be skipped @param nameOf the picture of a row */
  constructor(limit: number, nameOf: (row: number) => string, onMessage?: (message: string) => void) {
    this.#limit = limit;
    this.#nameOf = nameOf;
    this.#onMessage = onMessage;
  }

  /**
   * Whether the update may be made: true where the loss and all gradients are finite, false where the step is to be skipped.
   * @throws TrainingError where no more may be skipped
   */
  accepts(loss: Tensor, parameters: ReadonlyMap<string, Tensor>, details: StepDetails): boolean {
    const grads = [...parameters].flatMap(([name, { grad }]): [string, Tensor][] =>
      grad === null ? [] : [[`the gradient of ${name}`, grad]],
    );
    const fault = firstNonFinite([['the loss', loss], ...grads]);
    if (fault === undefined) return true;
    const { step, timesteps, rows } = details;
    const shown = rows.map((row) => `${row} (${this.#nameOf(row)})`).join(', ');
    const what = `${fault.name} of step ${step} is ${fault.value}; timesteps ${timesteps.toNumbers().join(', ')}; rows ${shown}`;
    if (this.#skipped === this.#limit)
      throw new TrainingError(
        `Expected a finite loss and finite gradients but ${what}. The weights were left as they were before, and no checkpoint was written. ` +
          'Go on with --resume and a lower --learning-rate, or with --max-nan-steps to skip such steps',
      );
    this.#skipped++;
    this.#onMessage?.(`Skipped a batch (${this.#skipped} of at most ${this.#limit}): ${what}`);
    return false;
  }
}
