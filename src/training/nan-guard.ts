/**
 * @file Keeps NaN and infinity out of the weights: checks the loss and the gradients of each step before the update. One
 * such update would spoil every weight, and every later checkpoint.
 *
 * On a GPU this check would make the CPU wait for every step. Where no batch may be skipped, a fault ends the run anyway;
 * then a step is checked while the next one runs, and before anything is saved.
 */
import { TrainingError } from '../base/errors.js';
import { firstNonFinite } from '../torch/finite.js';
import { cat, type Device, stack, type Tensor, tidy } from '../torch/index.js';

/** What a message says about a step. */
interface StepDetails {
  /** The number of the step, from 1. */
  step: number;
  /** int64 [b] */
  timesteps: Tensor;
  /** The rows of the batch, as indices into the dataset. */
  rows: readonly number[];
  /** The processes that computed these rows, in words; undefined where there is one. */
  ranks?: string | undefined;
  /** The trained parameters with their gradients. */
  parameters: ReadonlyMap<string, Tensor>;
}

/** A step's loss or one of its gradients is NaN or infinite; the step was not saved. */
export class NonFiniteError extends TrainingError {}

export class NanGuard {
  readonly #limit: number;
  readonly #nameOf: (row: number) => string;
  readonly #onMessage: ((message: string) => void) | undefined;
  /** Whether a step is checked only while the next one runs. */
  readonly #isDeferred: boolean;
  #skipped = 0;
  /** Whether a step was finite. If no step was, the learning rate is not the cause. */
  #hasTrained = false;
  /** Checks the step that was accepted without a check; null where every step has been checked. */
  #pendingCheck: (() => void) | null = null;

  /**
   * @param limit the number of batches that may be skipped
   * @param nameOf returns the name of a row's image
   * @param device the device of the losses
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
    this.#isDeferred = device !== 'cpu' && limit === 0;
  }

  /**
   * Returns whether to update the weights: true where loss and gradients are finite, false where the batch is skipped. On
   * a GPU where no batch may be skipped it returns true, and checks the step in the next call or in `checkLastStep`.
   * @param loss a scalar
   * @param gradNorm the norm of all gradients, a scalar; null where the gradients may be infinite
   * @throws NonFiniteError where no more batches may be skipped
   */
  accepts(loss: Tensor, gradNorm: Tensor | null, details: StepDetails): boolean {
    const { timesteps, parameters, ...stepAndRows } = details;
    const read = tidy(() => cat([stack([loss, gradNorm ?? loss]), timesteps.to('float32')]).readLater());
    if (!this.#isDeferred) return this.#check(read(), stepAndRows, parameters);
    this.checkLastStep();
    // Without the parameters: by then they have the gradients of another step.
    this.#pendingCheck = () => this.#check(read(), stepAndRows);
    return true;
  }

  /** Checks the last step, if it was not checked yet: call it before the weights are saved or used. @throws as `accepts` */
  checkLastStep(): void {
    const check = this.#pendingCheck;
    this.#pendingCheck = null;
    check?.();
  }

  /** @param parameters the parameters, if they still have the gradients of the step */
  #check(
    [loss = 0, norm = 0, ...timesteps]: number[],
    { step, rows, ranks }: Pick<StepDetails, 'step' | 'rows' | 'ranks'>,
    parameters: StepDetails['parameters'] = new Map(),
  ): boolean {
    if (Number.isFinite(loss) && Number.isFinite(norm)) {
      this.#hasTrained = true;
      return true;
    }
    const fault = Number.isFinite(loss) ? describeGradient(norm, parameters) : `the loss is ${loss}`;
    const shown = rows.map((row) => `${row} (${this.#nameOf(row)})`).join(', ');
    const what = `${fault} in step ${step}${ranks === undefined ? '' : ` at ${ranks}`}; timesteps ${timesteps.join(', ')}; rows ${shown}`;
    if (this.#skipped === this.#limit)
      throw new NonFiniteError(
        `Expected a finite loss and finite gradients but ${what}. ${this.#isDeferred ? 'No' : 'The weights were left as they were before, and no'} checkpoint was written. ` +
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
