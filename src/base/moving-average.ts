/** @file A mean that forgets: a single step's loss says little, since it depends most on its timestep. */

/** The exponential moving average; from the first value on it is a mean of the values that were given. */
export class MovingAverage {
  readonly #decay: number;
  #sum = 0;
  /** 1 - decay^n after n values: what the sum still lacks (Kingma & Ba, arXiv 1412.6980, section 3). */
  #weight = 0;

  /** @param decay what is left of a value's weight after one more, 0 < decay < 1 */
  constructor(decay: number) {
    this.#decay = decay;
  }

  /** What is not finite is left out: it would stay for ever. */
  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.#sum = this.#decay * this.#sum + (1 - this.#decay) * value;
    this.#weight = this.#decay * this.#weight + (1 - this.#decay);
  }

  /** NaN before the first value. */
  get value(): number {
    return this.#sum / this.#weight;
  }
}
