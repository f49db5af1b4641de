/**
 * @file The gain: proof within minutes that an adapter uses its image. The loss itself says little, since it depends on the
 * timesteps that were drawn. Here rows that are not trained on, their noise and their timesteps stay the same, and only the
 * image prompt changes: the row's own image, another row's, none, and no adapter at all.
 */
import { Gauge } from '../adapters/gauge.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { GainEvent } from '../base/run-context.js';
import { interval } from '../base/statistics.js';
import type { Conditioning } from '../diffusion/conditioning.js';
import type { RandomSource } from '../diffusion/objective.js';
import { cat, mapTensors, noGrad, randint, randn, type Tensor, tensorsOf, tidy } from '../torch/index.js';
import type { EncodedBatch } from './encodings/frozen-encoders.js';
import { type Condition, conditions, differences, gainsOf } from './gain-statistics.js';
import { type LossModels, type LossOptions, type StepInputs, trainingLoss } from './loss.js';

/** Equal ranges of timesteps, from little noise to much. Every row is measured once in each. */
const BANDS = 4;

/** What is measured, without when. */
export type GainReport = Omit<GainEvent, 'v' | 'type' | 'step' | 'time' | 'verdict'>;

export interface HeldOutRows extends EncodedBatch {
  /** The features of a dropped image, [1, …] as `imageFeatures`. */
  nullFeatures: Tensor;
}

/** Measures an adapter on the same held-out rows again and again. Nothing of the training's random state is used. */
export class GainMeter implements Disposable {
  readonly #models: LossModels;
  readonly #batchSize: number;
  /** For each band. */
  readonly #inputs: StepInputs[];
  readonly #features: Record<Exclude<Condition, 'base'>, Tensor>;
  /** Every row gets the text of the next, which belongs to its shuffled image. */
  readonly #otherText: Conditioning;
  /** Losses without adapter, which training does not change. */
  #base: Record<'text' | 'otherText', number[][]> | undefined;
  readonly #featureSpread: number;

  /**
   * @param rows two or more; they are cloned
   * @param batchSize rows that the backbone takes at a time
   * @param source draws noise and timesteps, once
   */
  constructor(models: LossModels, rows: HeldOutRows, batchSize: number, source: RandomSource) {
    this.#models = models;
    this.#batchSize = batchSize;
    const { nullFeatures, ...encoded } = rows;
    const { shape } = encoded.latents;
    const [count = 0] = shape;
    const total = models.objective.numTrainTimesteps;
    const own = tidy(() => mapTensors(encoded, (tensor) => tensor.clone()));
    this.#inputs = bandsOf(total).map(([first, end]) => ({
      ...own,
      noise: randn(shape, source),
      timesteps: randint(first, end, [count], source),
    }));
    this.#features = tidy(() => ({
      right: own.imageFeatures,
      shuffled: ofNextRow(own.imageFeatures),
      none: nullFeatures.expand(count, ...nullFeatures.shape.slice(1)).contiguous(),
    }));
    this.#otherText = tidy(() => {
      const { text, pooled } = own.conditioning;
      return { ...own.conditioning, text: ofNextRow(text), ...(pooled && { pooled: ofNextRow(pooled) }) };
    });
    this.#featureSpread = spreadOf(own.imageFeatures);
  }

  /** Returns the gains of an adapter as it is now. */
  measure(adapter: IPAdapter): GainReport {
    const start = performance.now();
    const gauge = new Gauge();
    const withOtherText = (inputs: StepInputs): StepInputs => ({ ...inputs, conditioning: this.#otherText });
    this.#base ??= {
      text: this.#inputs.map((inputs) => this.#losses(null, inputs)),
      otherText: this.#inputs.map((inputs) => this.#losses(null, withOtherText(inputs))),
    };
    const base = this.#base;
    const byBand = this.#inputs.map((inputs, band) =>
      Object.fromEntries(
        conditions.map((condition) => [
          condition,
          condition === 'base'
            ? (base.text[band] as number[])
            : this.#losses(
                adapter,
                { ...inputs, imageFeatures: this.#features[condition] },
                condition === 'right' ? { gauge } : {},
              ),
        ]),
      ),
    ) as Record<Condition, number[]>[];
    // A row's loss is its mean over the bands: the interval is over rows, which are independent.
    const losses = Object.fromEntries(
      conditions.map((condition) => [condition, meanOfColumns(byBand.map((band) => band[condition]))]),
    ) as Record<Condition, number[]>;
    const otherText = meanOfColumns(
      this.#inputs.map((inputs) =>
        this.#losses(adapter, { ...withOtherText(inputs), imageFeatures: this.#features.shuffled }),
      ),
    );
    const ranges = bandsOf(this.#models.objective.numTrainTimesteps);
    return {
      rows: losses.right.length,
      ...gainsOf(losses),
      bands: byBand.map((band, i) => {
        const [first, end] = ranges[i] as [number, number];
        return { first, end, ...gainsOf(band) };
      }),
      gauge: gauge.read(),
      text: {
        adapter: interval(differences(otherText, losses.shuffled)),
        base: interval(differences(meanOfColumns(base.otherText), losses.base)),
      },
      feature_spread: this.#featureSpread,
      seconds: (performance.now() - start) / 1000,
    };
  }

  /** Returns the loss of each row. @param adapter null: the base model */
  #losses(adapter: IPAdapter | null, inputs: StepInputs, options: LossOptions = {}): number[] {
    using _ = noGrad();
    const [count = 0] = inputs.latents.shape;
    const losses: number[] = [];
    for (let first = 0; first < count; first += this.#batchSize)
      tidy(() => {
        const some = mapTensors(inputs, (tensor) => tensor.slice(0, first, first + this.#batchSize));
        losses.push(...trainingLoss(this.#models, adapter, some, options).rowLosses.toNumbers());
      });
    return losses;
  }

  [Symbol.dispose](): void {
    for (const tensor of new Set(tensorsOf([this.#inputs, this.#features, this.#otherText])))
      tensor.dispose();
  }
}

/** Returns the ranges of timesteps, first ≤ t < end. */
function bandsOf(numTrainTimesteps: number): [first: number, end: number][] {
  const edge = (band: number): number => Math.round((band * numTrainTimesteps) / BANDS);
  return Array.from({ length: BANDS }, (_, band) => [edge(band), edge(band + 1)]);
}

function meanOfColumns(lists: readonly number[][]): number[] {
  return (lists[0] as number[]).map(
    (_, i) => lists.reduce((sum, list) => sum + (list[i] as number), 0) / lists.length,
  );
}

/** Returns a tensor in which each row has the values of the next, and the last those of the first. */
function ofNextRow(rows: Tensor): Tensor {
  return cat([rows.slice(0, 1), rows.slice(0, 0, 1)]);
}

/** Returns the distance of features from their mean over the rows, relative to the size of that mean. */
function spreadOf(features: Tensor): number {
  return tidy(() => {
    const all = features.to('float32');
    const mean = all.mean([0], true);
    const size = (tensor: Tensor): number => Math.sqrt(tensor.square().mean().item() as number);
    const scale = size(mean);
    return scale === 0 ? 0 : size(all.sub(mean)) / scale;
  });
}
