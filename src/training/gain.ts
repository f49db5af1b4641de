/**
 * @file The gain: proof within minutes that an adapter uses its image. The loss itself says little, since it depends on the
 * timesteps that were drawn. Here rows that are not trained on, their noise and their timesteps stay the same, and only the
 * image prompt changes: the row's own image, another row's, none, and no adapter at all.
 */
import { Gauge, type GaugeSums } from '../adapters/gauge.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { GainEvent } from '../base/run-context.js';
import { interval } from '../base/statistics.js';
import { shareOf } from '../data/batch-plan.js';
import type { Conditioning } from '../diffusion/conditioning.js';
import type { RandomSource } from '../diffusion/objective.js';
import { alone, type Processes } from '../distributed/processes.js';
import { cat, mapTensors, noGrad, randint, randn, type Tensor, tensorsOf, tidy } from '../torch/index.js';
import type { EncodedBatch } from './encodings/frozen-encoders.js';
import { type Condition, differences, gainsOf } from './gain-statistics.js';
import { type LossModels, type LossOptions, type StepInputs, trainingLoss } from './loss.js';

/** Equal ranges of timesteps, from little noise to much. Every row is measured once in each. */
const BANDS = 4;

/** What is measured, without when. */
export type GainReport = Omit<GainEvent, 'v' | 'type' | 'step' | 'time' | 'verdict'>;

export interface HeldOutRows extends EncodedBatch {
  /** The features of a dropped image, [1, …] as `imageFeatures`. */
  nullFeatures: Tensor;
}

/** The losses of some rows, for each band. */
interface Losses {
  conditions: Record<Condition, number[]>[];
  otherText: Record<'adapter' | 'base', number[]>[];
}

/**
 * Measures an adapter on the same held-out rows again and again; each process those of some rows. Nothing of the training's
 * random state is used.
 */
export class GainMeter implements Disposable {
  readonly #models: LossModels;
  readonly #batchSize: number;
  readonly #processes: Processes;
  /** For each band. Of this process's rows, as what follows. */
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
   * @param processes which have the same rows, and share them out
   */
  constructor(
    models: LossModels,
    rows: HeldOutRows,
    batchSize: number,
    source: RandomSource,
    processes: Processes = alone,
  ) {
    this.#models = models;
    this.#batchSize = batchSize;
    this.#processes = processes;
    const { nullFeatures, ...all } = rows;
    const { shape } = all.latents;
    const [count = 0] = shape;
    const [firstRow, endRow] = shareOf(count, processes);
    const ownOf = (tensor: Tensor): Tensor => tensor.slice(0, firstRow, endRow).clone();
    const bands = bandsOf(models.objective.numTrainTimesteps);
    this.#inputs = tidy(() => {
      const own = mapTensors(all, ownOf);
      return bands.map(([from, to]) => ({
        ...own,
        noise: ownOf(randn(shape, source)),
        timesteps: ownOf(randint(from, to, [count], source)),
      }));
    });
    const [{ imageFeatures: right }] = this.#inputs as [StepInputs];
    this.#features = tidy(() => ({
      right,
      shuffled: ownOf(ofNextRow(all.imageFeatures)),
      none: ownOf(nullFeatures.expand(count, ...nullFeatures.shape.slice(1))),
    }));
    this.#otherText = tidy(() => {
      const { text, pooled, ...rest } = all.conditioning;
      const others = { text: ofNextRow(text), ...(pooled && { pooled: ofNextRow(pooled) }) };
      return mapTensors({ ...rest, ...others }, ownOf);
    });
    this.#featureSpread = spreadOf(all.imageFeatures);
  }

  /** Returns the gains of an adapter as it is now, of all rows, on all processes. */
  async measure(adapter: IPAdapter): Promise<GainReport> {
    const start = performance.now();
    const processes = this.#processes;
    const parts = await processes.gatherJson(await processes.together(() => this.#measureOwn(adapter)));
    const byBand = joinedBands(parts.map((part) => part.conditions));
    const textByBand = joinedBands(parts.map((part) => part.otherText));
    // A row's loss is its mean over the bands: the interval is over rows, which are independent.
    const losses = meanOfBands(byBand);
    const otherText = meanOfBands(textByBand);
    const ranges = bandsOf(this.#models.objective.numTrainTimesteps);
    return {
      rows: losses.right.length,
      ...gainsOf(losses),
      bands: byBand.map((band, i) => {
        const [first, end] = ranges[i] as [number, number];
        return { first, end, ...gainsOf(band) };
      }),
      gauge: new Gauge(parts.map(({ gauge }) => gauge)).read(),
      text: {
        adapter: interval(differences(otherText.adapter, losses.shuffled)),
        base: interval(differences(otherText.base, losses.base)),
      },
      feature_spread: this.#featureSpread,
      seconds: (performance.now() - start) / 1000,
    };
  }

  #measureOwn(adapter: IPAdapter): Losses & { gauge: GaugeSums } {
    const gauge = new Gauge();
    const withOtherText = (inputs: StepInputs): StepInputs => ({ ...inputs, conditioning: this.#otherText });
    this.#base ??= {
      text: this.#inputs.map((inputs) => this.#losses(null, inputs)),
      otherText: this.#inputs.map((inputs) => this.#losses(null, withOtherText(inputs))),
    };
    const { text, otherText } = this.#base;
    const { right, shuffled, none } = this.#features;
    const withImage = (inputs: StepInputs, imageFeatures: Tensor, options?: LossOptions): number[] =>
      this.#losses(adapter, { ...inputs, imageFeatures }, options);
    return {
      conditions: this.#inputs.map((inputs, band) => ({
        right: withImage(inputs, right, { gauge }),
        shuffled: withImage(inputs, shuffled),
        none: withImage(inputs, none),
        base: text[band] as number[],
      })),
      otherText: this.#inputs.map((inputs, band) => ({
        adapter: withImage(withOtherText(inputs), shuffled),
        base: otherText[band] as number[],
      })),
      gauge: gauge.sums,
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

/** Returns the losses of all processes' rows, for each band. */
function joinedBands<Key extends string>(
  parts: readonly (readonly Record<Key, number[]>[])[],
): Record<Key, number[]>[] {
  return (parts[0] as Record<Key, number[]>[]).map((keys, band) =>
    mapKeys(keys, (key) => parts.flatMap((part) => (part[band] as typeof keys)[key])),
  );
}

function meanOfBands<Key extends string>(bands: readonly Record<Key, number[]>[]): Record<Key, number[]> {
  return mapKeys(bands[0] as Record<Key, number[]>, (key) => meanOfColumns(bands.map((band) => band[key])));
}

function mapKeys<Key extends string, Value>(keys: Record<Key, unknown>, work: (key: Key) => Value) {
  const entries = (Object.keys(keys) as Key[]).map((key) => [key, work(key)]);
  return Object.fromEntries(entries) as Record<Key, Value>;
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
