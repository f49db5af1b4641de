/**
 * @file Keeps NaN and infinity out of the weights: looks at each step's loss and gradients before the update. One such
 * update would spoil every weight, and every checkpoint from then on.
 */
import { TrainingError } from './errors.js';
import { firstNonFinite } from './finite.js';
import { stack, type Tensor, tidy } from './torch/index.js';

/** What a message tells of a step. */
interface StepDetails {
  /** From 1. */
  step: number;
  /** int64 [b] */
  timesteps: Tensor;
  /** Indices into the dataset. */
  rows: readonly number[];
  /** With their gradients. */
  parameters: ReadonlyMap<string, Tensor>;
}

/** A step's loss or a gradient is NaN or infinite, and nothing was changed by it. */
export class NonFiniteError extends TrainingError {}

export class NanGuard {
  readonly #limit: number;
  readonly #nameOf: (row: number) => string;
  readonly #onMessage: ((message: string) => void) | undefined;
  #skipped = 0;

  /** @param limit batches that may be skipped @param nameOf the picture of a row */
  constructor(limit: number, nameOf: (row: number) => string, onMessage?: (message: string) => void) {
    this.#limit = limit;
    this.#nameOf = nameOf;
    this.#onMessage = onMessage;
  }

  /**
   * Whether the update may be made: true where loss and gradients are finite, false where the batch is to be skipped.
   * @param loss a scalar
   * @param gradNorm of all gradients, a scalar; null where they may be infinite
   * @throws NonFiniteError where no more may be skipped
   */
  accepts(loss: Tensor, gradNorm: Tensor | null, details: StepDetails): boolean {
    const [lossValue = 0, norm = 0] = tidy(() =>
      stack(gradNorm === null ? [loss] : [loss, gradNorm]).toNumbers(),
    );
    if (Number.isFinite(lossValue) && Number.isFinite(norm)) return true;
    const { step, timesteps, rows } = details;
    const fault = Number.isFinite(lossValue) ? describeGradient(norm, details) : `the loss is ${lossValue}`;
    const shown = rows.map((row) => `${row} (${this.#nameOf(row)})`).join(', ');
    const what = `${fault} in step ${step}; timesteps ${timesteps.toNumbers().join(', ')}; rows ${shown}`;
    if (this.#skipped === this.#limit)
      throw new NonFiniteError(
        `Expected a finite loss and finite gradients but ${what}. The weights were left as they were before, and no checkpoint was written. ` +
          'Take a lower --learning-rate, or --max-nan-steps to skip such batches',
      );
    this.#skipped++;
    this.#onMessage?.(`Skipped a batch (${this.#skipped} of at most ${this.#limit}): ${what}`);
    return false;
  }
}

function describeGradient(norm: number, { parameters }: StepDetails): string {
  const grads = [...parameters].flatMap(([name, { grad }]): [string, Tensor][] =>
    grad === null ? [] : [[name, grad]],
  );
  const first = firstNonFinite(grads);
  return first === undefined
    ? `the norm of the gradients is ${norm}`
    : `the gradient of ${first.name} has ${first.value}`;
}
