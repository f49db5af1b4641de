/**
 * @file Smoothed losses by ranges of timesteps. A loss depends far more on its timestep than on the progress of training, so
 * only losses of similar timesteps can be compared.
 */
import { MovingAverage } from '../../base/moving-average.js';

const BUCKETS = 10;
/** The decay of the averages: about the last hundred rows of a bucket count. */
const DECAY = 0.99;

export class LossByTimestep {
  readonly #numTrainTimesteps: number;
  readonly #buckets = Array.from({ length: BUCKETS }, () => new MovingAverage(DECAY));

  constructor(numTrainTimesteps: number) {
    this.#numTrainTimesteps = numTrainTimesteps;
  }

  /** Adds rows. @param losses one for each row @param timesteps of the same rows, 0 ≤ t < numTrainTimesteps */
  add(losses: readonly number[], timesteps: readonly number[]): void {
    for (const [i, loss] of losses.entries()) {
      const bucket = Math.floor(((timesteps[i] as number) * BUCKETS) / this.#numTrainTimesteps);
      this.#buckets[bucket]?.add(loss);
    }
  }

  /** Returns the smoothed losses of the buckets that have rows, by names such as `loss_by_timestep/100-199`. */
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
