/** @file The exponential moving average that smooths the loss, which varies from step to step mainly with the sampled timesteps. */

/** An exponential moving average with bias correction: after the first value it equals that value. */
export class MovingAverage {
  readonly #decay: number;
  #sum = 0;
  /** 1 - decay^n after n values, the bias correction (Kingma & Ba, arXiv 1412.6980, section 3). */
  #weight = 0;

  /** @param decay the factor by which each new value reduces the weight of earlier ones, 0 < decay < 1 */
  constructor(decay: number) {
    this.#decay = decay;
  }

  /** Adds a value. NaN and infinity are ignored, since the average would never recover. */
  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.#sum = this.#decay * this.#sum + (1 - this.#decay) * value;
    this.#weight = this.#decay * this.#weight + (1 - this.#decay);
  }

  /** The average; NaN before the first value. */
  get value(): number {
    return this.#sum / this.#weight;
  }
}
