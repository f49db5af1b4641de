/**
 * @file The loss of rows by the timestep that they were noised to. A loss depends far more on its timestep than on what
 * was learnt, so that only losses of near timesteps can be compared with one another.
 */
import { MovingAverage } from '../../base/moving-average.js';

const BUCKETS = 10;
/** Of each row; about the last hundred rows of a bucket count. */
const DECAY = 0.99;

export class LossByTimestep {
  readonly #numTrainTimesteps: number;
  readonly #buckets = Array.from({ length: BUCKETS }, () => new MovingAverage(DECAY));

  constructor(numTrainTimesteps: number) {
    this.#numTrainTimesteps = numTrainTimesteps;
  }

  /** @param losses a row's each @param timesteps of the same rows, 0 ≤ t < numTrainTimesteps */
  add(losses: readonly number[], timesteps: readonly number[]): void {
    for (const [i, loss] of losses.entries()) {
      const bucket = Math.floor(((timesteps[i] as number) * BUCKETS) / this.#numTrainTimesteps);
      this.#buckets[bucket]?.add(loss);
    }
  }

  /** The smoothed losses by name, such as `loss_by_timestep/100-199`; of the buckets that rows fell into. */
  scalars(): Record<string, number> {
    const named = this.#buckets.map(({ value }, i) => [`loss_by_timestep/${this.#range(i)}`, value] as const);
    return Object.fromEntries(named.filter(([, value]) => !Number.isNaN(value)));
  }

  #range(bucket: number): string {
    const total = this.#numTrainTimesteps;
    const starts = [bucket, bucket + 1].map((i) => Math.ceil((i * total) / BUCKETS)) as [number, number];
    // Padded, so that names sort as numbers do.
    const shown = (t: number): string => String(t).padStart(String(total - 1).length, '0');
    return `${shown(starts[0])}-${shown(starts[1] - 1)}`;
  }
}
