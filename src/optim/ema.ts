/**
 * @file The exponential moving average (EMA) of weights, which generates better images than the last step's weights (Ho et
 * al., arXiv 2006.11239, section 4), with the warm-up of diffusers' EMAModel (`src/diffusers/training_utils.py`).
 */
import { noGrad, type Tensor, tidy } from '../torch/index.js';
import { copyState } from './state.js';

/** Returns the decay in the n-th update, n = 1, 2, …. It starts low, so that the untrained weights are soon forgotten. */
export function emaDecay(update: number, maxDecay: number): number {
  const earlier = update - 1;
  return earlier === 0 ? 0 : Math.min(maxDecay, (1 + earlier) / (10 + earlier));
}

/** Moving averages of parameters, on the parameters' device. */
export class EMA {
  readonly #parameters: ReadonlyMap<string, Tensor>;
  readonly #averages: ReadonlyMap<string, Tensor>;
  readonly #decay: number;

  /** @param decay the decay after the warm-up, 0 … 1 */
  constructor(parameters: ReadonlyMap<string, Tensor>, decay: number) {
    using _ = noGrad();
    this.#parameters = parameters;
    this.#decay = decay;
    this.#averages = new Map(
      Array.from(parameters, ([name, parameter]) => [name, tidy(() => parameter.detach().clone())]),
    );
  }

  /**
   * Updates the averages: average ← average − (1 − decay) (average − parameter).
   * @param update the number of updates of the parameters so far, 1 or more
   */
  step(update: number): void {
    using _ = noGrad();
    const share = 1 - emaDecay(update, this.#decay);
    // One parameter at a time, since the differences of all together would be as large as the model.
    for (const [name, average] of this.#averages)
      tidy(() => average.add_(average.sub(this.#parameters.get(name) as Tensor), -share));
  }

  /** Returns the averages by their parameters' names. */
  stateDict(): ReadonlyMap<string, Tensor> {
    return this.#averages;
  }

  /**
   * Restores a state from `stateDict`.
   * @param where the file, for the error
   * @throws CheckpointError where the averages belong to other parameters
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>, where: string): void {
    copyState(this.#averages, state, 'moving average', where);
  }
}
