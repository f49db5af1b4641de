/**
 * @file Keeps NaN and infinity out of the weights: looks at each step's loss and gradients before the update. One such
 * update would spoil every weight, and every checkpoint from then on.
 *
 * On a GPU that would mean waiting for every step. Where no batch may be skipped, a fault ends the run, and the weights in
 * memory with it; there it is enough to look at a step while the next is on its way, and before anything is saved.
 */
import { TrainingError } from '../base/errors.js';
import { firstNonFinite } from '../optim/finite.js';
import { cat, type Device, stack, type Tensor, tidy } from '../torch/index.js';

/** What a message says about a step. */
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

/** A step's loss or one of its gradients is NaN or infinite; nothing that came of it was saved. */
export class NonFiniteError extends TrainingError {}

export class NanGuard {
  readonly #limit: number;
  readonly #nameOf: (row: number) => string;
  readonly #onMessage: ((message: string) => void) | undefined;
  readonly #isLate: boolean;
  #skipped = 0;
  /** Whether a step was sound: from then on the training may be what makes others unsound. */
  #hasTrained = false;
  /** Looks at the step that was accepted unseen. */
  #settle: (() => void) | null = null;

  /**
   * @param limit batches that may be skipped
   * @param nameOf the image file of a row
   * @param device of the losses
   */
  constructor(
    limit: number,
    nameOf: (row: number) => string,
    {
      device = 'cpu',
      onMessage,
    }: { device?: Device; onMessage?: ((message: string) => void) | undefined } = {},
  ) {
    this.#limit = limit;
    this.#nameOf = nameOf;
    this.#onMessage = onMessage;
    this.#isLate = device !== 'cpu' && limit === 0;
  }

  /**
   * Whether the update may be made: true where loss and gradients are finite, false where the batch is to be skipped. On
   * a GPU where none may be skipped it is true, and the step's numbers are looked at in the next call or in `settle`.
   * @param loss a scalar
   * @param gradNorm of all gradients, a scalar; null where they may be infinite
   * @throws NonFiniteError where no more may be skipped
   */
  accepts(loss: Tensor, gradNorm: Tensor | null, details: StepDetails): boolean {
    const { timesteps, parameters, ...place } = details;
    const read = tidy(() => cat([stack([loss, gradNorm ?? loss]), timesteps.to('float32')]).readLater());
    if (!this.#isLate) return this.#look(read(), place, parameters);
    this.settle();
    // The gradients are others by then.
    this.#settle = () => this.#look(read(), place);
    return true;
  }

  /** Looks at the last step, where that is still to be done: before its weights are saved or used. @throws as `accepts` */
  settle(): void {
    const settle = this.#settle;
    this.#settle = null;
    settle?.();
  }

  /** @param parameters with the gradients of the step, where they are still there */
  #look(
    [loss = 0, norm = 0, ...timesteps]: number[],
    { step, rows }: Pick<StepDetails, 'step' | 'rows'>,
    parameters: StepDetails['parameters'] = new Map(),
  ): boolean {
    if (Number.isFinite(loss) && Number.isFinite(norm)) {
      this.#hasTrained = true;
      return true;
    }
    const fault = Number.isFinite(loss) ? describeGradient(norm, parameters) : `the loss is ${loss}`;
    const shown = rows.map((row) => `${row} (${this.#nameOf(row)})`).join(', ');
    const what = `${fault} in step ${step}; timesteps ${timesteps.join(', ')}; rows ${shown}`;
    if (this.#skipped === this.#limit)
      throw new NonFiniteError(
        `Expected a finite loss and finite gradients but ${what}. ${this.#isLate ? 'No' : 'The weights were left as they were before, and no'} checkpoint was written. ` +
          (this.#hasTrained
            ? 'Take a lower --learning-rate, or --max-nan-steps to skip such batches'
            : 'No step was made before it, so it is not the learning rate: check the model files and these rows, leave --mixed-precision fp16 out, or give --max-nan-steps to skip such batches'),
      );
    this.#skipped++;
    this.#onMessage?.(`Skipped a batch (${this.#skipped} of at most ${this.#limit}): ${what}`);
    return false;
  }
}

function describeGradient(norm: number, parameters: StepDetails['parameters']): string {
  const grads = [...parameters].flatMap(([name, { grad }]): [string, Tensor][] =>
    grad === null ? [] : [[name, grad]],
  );
  const first = firstNonFinite(grads);
  return first === undefined
    ? `the norm of the gradients is ${norm}`
    : `the gradient of ${first.name} has ${first.value}`;
}
