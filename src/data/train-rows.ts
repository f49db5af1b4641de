/** @file The rows of a run: a dataset with its groups, and what each of several datasets contributes. */
import { ConfigError, DatasetError } from '../base/errors.js';
import type { Dataset } from './dataset.js';
import { forEachDataset } from './for-each-dataset.js';
import { Groups } from './groups.js';
import { Mixture, type Portion, portionsByWeight } from './mixture.js';
import { type MaskOptions, usesMasks } from './reference-options.js';
import type { DropRates } from './sampling.js';

/** The options that decide what a run does with its rows; lists have one value for all datasets, or one for each. */
export interface TrainRowOptions extends MaskOptions {
  readonly groupBy?: readonly string[] | undefined;
  readonly referencesPerRow?: number | undefined;
  readonly datasetRepeats?: readonly number[] | undefined;
  readonly datasetWeights?: readonly number[] | undefined;
  readonly dropImage?: readonly number[] | undefined;
  readonly dropText?: readonly number[] | undefined;
  readonly dropBoth?: readonly number[] | undefined;
  readonly openShards?: number | undefined;
  readonly buckets?: boolean | undefined;
  readonly seed?: number | undefined;
}

export interface TrainRows extends Dataset {
  readonly groups?: Groups | undefined;
  readonly mixture?: Mixture | undefined;
  /** Returns how often a row drops its conditions. */
  readonly dropRatesOf?: ((row: number) => DropRates) | undefined;
}

/**
 * Finds the groups of a dataset's rows and mixes the datasets that it was joined from.
 * @throws ConfigError where the options contradict each other; DatasetError where groups have no second row
 */
export function trainRows(
  dataset: Dataset,
  options: TrainRowOptions,
  onMessage?: (message: string) => void,
): TrainRows {
  const { groupBy, referencesPerRow = 1, openShards } = options;
  const groups = groupBy?.some((by) => by !== 'none') ? new Groups(dataset, openShards) : undefined;
  if (groups === undefined && referencesPerRow > 1)
    throw new ConfigError(
      `--references-per-row (referencesPerRow) is ${referencesPerRow}, but a row has one reference without --group-by; give --group-by, or leave it out`,
    );
  if (groups !== undefined) onMessage?.(groups.describe());
  if (usesMasks(options)) onMessage?.(describeMasks(dataset));
  return {
    ...dataset,
    groups,
    mixture: mixtureOf(dataset, options, onMessage),
    dropRatesOf: dropRatesOf(dataset, options),
  };
}

/** @throws DatasetError where no row has a mask */
function describeMasks({ rows }: Dataset): string {
  let masked = 0;
  for (const { mask } of rows) if (mask !== undefined) masked++;
  if (masked === 0)
    throw new DatasetError(
      `Expected masks, which --masked-loss, --reference-mask-crop and --reference-background use, but none of ${rows.length} rows has one. Write dog.mask.png beside dog.jpg, "mask_file" in JSON, KEY.mask.png in a tar, or a column mask in Parquet.`,
    );
  return `Masks: ${masked} of ${rows.length} rows have one`;
}

function partsOf({ rows, parts = [rows.length] }: Dataset): readonly number[] {
  return parts;
}

function mixtureOf(
  dataset: Dataset,
  options: TrainRowOptions,
  onMessage: ((message: string) => void) | undefined,
): Mixture | undefined {
  const { datasetRepeats: repeats, datasetWeights: weights, openShards = 0, buckets, seed = 0 } = options;
  if (repeats === undefined && weights === undefined) return undefined;
  if (repeats !== undefined && weights !== undefined)
    throw new ConfigError(
      '--dataset-repeats (datasetRepeats) and --dataset-weights (datasetWeights) both say how often a dataset comes; give one of them',
    );
  const parts = partsOf(dataset);
  const empty = parts.indexOf(0);
  if (empty >= 0)
    throw new DatasetError(
      `All rows of dataset ${empty + 1} of ${parts.length} are held out by --validation-split; hold out fewer, or leave the dataset out`,
    );
  let portions: Portion[];
  if (weights === undefined) {
    const of = forEachDataset('--dataset-repeats (datasetRepeats)', repeats, parts.length);
    portions = parts.map((rows, i) => ({ rows, taken: rows * (of(i) ?? 1) }));
  } else {
    if (weights.length !== parts.length)
      throw new ConfigError(
        `--dataset-weights (datasetWeights) has ${weights.length} values and --dataset ${parts.length}; give a weight for each dataset`,
      );
    const reason = buckets
      ? 'with --buckets (buckets), whose batches are the same in every epoch'
      : (dataset.shards?.length ?? 0) > 1 && openShards > 0
        ? 'with several shards of which some are read at a time (--open-shards 0 shuffles all rows)'
        : null;
    if (reason !== null)
      throw new ConfigError(
        `--dataset-weights (datasetWeights) draws other rows in each epoch, which does not work ${reason}; give --dataset-repeats`,
      );
    portions = portionsByWeight(parts, weights);
  }
  const mixture = new Mixture(portions, seed);
  const shown = portions.map(({ rows, taken }, i) => `${taken} of dataset ${i + 1} (${rows})`);
  onMessage?.(`An epoch has ${mixture.length} rows: ${shown.join(', ')}`);
  return mixture;
}

function dropRatesOf(
  dataset: Dataset,
  { dropImage, dropText, dropBoth }: TrainRowOptions,
): ((row: number) => DropRates) | undefined {
  if (dropImage === undefined && dropText === undefined && dropBoth === undefined) return undefined;
  const parts = partsOf(dataset);
  const imageOf = forEachDataset('--drop-image (dropImage)', dropImage, parts.length);
  const textOf = forEachDataset('--drop-text (dropText)', dropText, parts.length);
  const bothOf = forEachDataset('--drop-both (dropBoth)', dropBoth, parts.length);
  const rates = parts.map((_, i): DropRates => {
    const rate = { image: imageOf(i) ?? 0, text: textOf(i) ?? 0, both: bothOf(i) ?? 0 };
    if (rate.image + rate.text + rate.both > 1 + 1e-9)
      throw new ConfigError(
        `--drop-image ${rate.image}, --drop-text ${rate.text} and --drop-both ${rate.both} exclude each other, and their sum is above 1`,
      );
    return rate;
  });
  if (rates.length === 1) return () => rates[0] as DropRates;
  const starts: number[] = [];
  for (let i = 0, start = 0; i < parts.length; start += parts[i++] as number) starts.push(start);
  return (row) => rates[starts.findLastIndex((start) => start <= row)] as DropRates;
}
