/**
 * @file The exponential moving average of weights, which draws better than the last step's (Ho et al., arXiv
 * 2006.11239, section 4), with the warm-up of diffusers' EMAModel (`src/diffusers/training_utils.py`).
 */
import { noGrad, type Tensor, tidy } from '../torch/index.js';
import { copyState } from './state.js';

/** Of the averages in the n-th update, n = 1, 2, …: early on they forget fast, for the first weights are no good. */
export function emaDecay(update: number, most: number): number {
  const before = update - 1;
  return before === 0 ? 0 : Math.min(most, (1 + before) / (10 + before));
}

/** Averages of parameters, beside them on their device. */
export class EMA {
  readonly #parameters: ReadonlyMap<string, Tensor>;
  readonly #averages: ReadonlyMap<string, Tensor>;
  readonly #decay: number;

  /** @param decay what the decay grows to; 0 … 1 */
  constructor(parameters: ReadonlyMap<string, Tensor>, decay: number) {
    using _ = noGrad();
    this.#parameters = parameters;
    this.#decay = decay;
    this.#averages = new Map(
      Array.from(parameters, ([name, parameter]) => [name, tidy(() => parameter.detach().clone())]),
    );
  }

  /**
   * Takes the parameters in: average ← average − (1 − decay) (average − parameter).
   * @param update how many updates the parameters have had
   */
  step(update: number): void {
    using _ = noGrad();
    const share = 1 - emaDecay(update, this.#decay);
    // One parameter at a time: the differences of all at once would be as large as the model.
    for (const [name, average] of this.#averages)
      tidy(() => average.add_(average.sub(this.#parameters.get(name) as Tensor), -share));
  }

  /** The averages by their parameters' names. */
  stateDict(): ReadonlyMap<string, Tensor> {
    return this.#averages;
  }

  /**
   * Copies in what `stateDict` gave.
   * @param where the file, for the error
   * @throws CheckpointError where the averages are of other parameters
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>, where: string): void {
    copyState(this.#averages, state, 'moving average', where);
  }
}
