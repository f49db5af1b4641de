/** @file Encodes rows that are not trained on, once, for the measures of a run. */
import { ConfigError, DatasetError } from '../base/errors.js';
import type { GuardedContext } from '../base/run-context.js';
import type { DataLoader } from '../data/data-loader.js';
import type { Dataset, Rows } from '../data/dataset.js';
import type { Examples, Input, Sample } from '../data/examples.js';
import { Groups } from '../data/groups.js';
import { type OpenHooks, openDataset } from '../data/open-dataset.js';
import { usesMasks } from '../data/reference-options.js';
import { splitDataset, withReferences } from '../data/split.js';
import type { RandomSource } from '../diffusion/objective.js';
import { type Part, parts, type ResolvedTrainOptions } from '../options/train-options.js';
import { cat, randn, type Tensor, tensorsOf, tidy, trimMemory, zipTensors } from '../torch/index.js';
import {
  type BatchModels,
  type Encode,
  type EncodedBatch,
  type EncoderSources,
  type Encoding,
  encodeBatch,
} from './encodings/frozen-encoders.js';
import type { HeldOutRows } from './gain.js';

/** As many rows as a validation dataset gives at most: their intervals are narrow, and each costs 16 predictions. */
const MOST_ROWS = 64;

/**
 * Returns the rows to train on and those to measure on, if any.
 * @throws ConfigError, DatasetError where they cannot be had
 */
export async function holdOut(
  whole: Dataset,
  config: ResolvedTrainOptions,
  context: OpenHooks & GuardedContext,
): Promise<{ train: Dataset; heldOut: Rows | undefined }> {
  const { validationSplit, validationDataset, groupBy, seed } = config;
  if (validationSplit !== undefined && validationDataset !== undefined)
    throw new ConfigError(
      '--validation-split (validationSplit) and --validation-dataset (validationDataset) both say what to measure on; give one of them',
    );
  if (validationSplit !== undefined)
    return splitDataset(whole, validationSplit, seed, groupsOf(whole, groupBy, config));
  if (validationDataset === undefined) return { train: whole, heldOut: undefined };
  return { train: whole, heldOut: await validationRows(validationDataset, config, context) };
}

type Values = readonly string[] | undefined;

function groupsOf(
  dataset: Dataset,
  groupBy: Values,
  { openShards }: ResolvedTrainOptions,
): Groups | undefined {
  return groupBy?.some((by) => by !== 'none') ? new Groups(dataset, openShards) : undefined;
}

/** Returns the rows of `--validation-dataset`, with captions and groups as those that are trained on. */
async function validationRows(
  datasets: readonly string[],
  config: ResolvedTrainOptions,
  { signal, shareOut, onMessage }: OpenHooks & GuardedContext,
): Promise<Rows> {
  const { shardCacheSize, seed } = config;
  const groupBy = ofValidation('--group-by (groupBy)', config.groupBy, datasets);
  const captionPrefix = ofValidation('--caption-prefix (captionPrefix)', config.captionPrefix, datasets);
  const opened = await openDataset(
    { dataset: datasets, groupBy, captionPrefix, shardCacheSize, readMasks: usesMasks(config) },
    { signal, shareOut },
  );
  const names = datasets.join(', ');
  if (opened.rows.length < 2)
    throw new DatasetError(`Expected 2 rows or more in ${names} but there is ${opened.rows.length}`);
  const groups = groupsOf(opened, groupBy, config);
  if (opened.rows.length <= MOST_ROWS) return withReferences(opened.rows, seed, groups);
  onMessage(`Measuring on ${MOST_ROWS} of the ${opened.rows.length} rows of ${names}, chosen by --seed`);
  return splitDataset(opened, MOST_ROWS, seed, groups).heldOut;
}

/**
 * Returns the values of an option for the validation datasets: the one value of all training datasets, or those of as many
 * training datasets, in their order.
 * @throws ConfigError where it is not clear which value a validation dataset has
 */
function ofValidation(name: string, values: Values, datasets: readonly string[]): Values {
  if (values === undefined || values.length === datasets.length) return values;
  if (new Set(values).size === 1) return values.slice(0, 1);
  throw new ConfigError(
    `${name} has another value for each of ${values.length} datasets, but --validation-dataset (validationDataset) names ${datasets.length}; name a validation dataset for each dataset, in their order, or give one value for all`,
  );
}

type Models = BatchModels & { encoders: EncoderSources };

/**
 * Encodes rows with their first caption, unmirrored, nothing dropped. Encoders are loaded one after another, and released. Rows whose image cannot be read are left out.
 * @param loaded the encoders that are in memory anyway
 * @param loader of these rows, all of one size
 * @param source draws the samples of the VAE's distribution
 * @param others what the loss takes besides the inputs of encoders
 * @throws DatasetError as the loader does
 */
export async function encodeHeldOut(
  models: Models,
  loaded: Partial<Record<Part, Encode>>,
  loader: DataLoader,
  rows: Rows,
  source: RandomSource,
  others: readonly Input[] = [],
): Promise<HeldOutRows> {
  const all = Array.from(rows, ({ captions: [caption = ''] }, row): Sample => {
    return { row, drop: { dropImage: false, dropText: false }, caption, flip: false };
  });
  for (;;) {
    const unreadable = loader.badRows.size;
    const kept = all.filter(({ row }) => !loader.badRows.has(row));
    // What a dropped image is for the adapter: of the row itself nothing is left.
    const dropped = kept.slice(0, 1).map((sample) => {
      return { ...sample, drop: { dropImage: true, dropText: true }, caption: '' };
    });
    const batches = await encodeParts(models, loaded, loader, [kept, dropped], others);
    try {
      // A row that one part could read and another could not has shifted the batches.
      if (loader.badRows.size === unreadable) return joined(models, batches, source);
    } finally {
      for (const tensor of tensorsOf(batches.encodings)) tensor.dispose();
      trimMemory();
    }
  }
}

interface EncodedParts {
  examples: Examples[];
  /** Of each of them. */
  encodings: Record<Part, Encoding[]>;
}

async function encodeParts(
  { encoders }: Models,
  loaded: Partial<Record<Part, Encode>>,
  loader: DataLoader,
  lists: readonly Sample[][],
  others: readonly Input[],
): Promise<EncodedParts> {
  const encodings: EncodedParts['encodings'] = { latents: [], image: [], text: [] };
  let examples: Examples[] = [];
  for (const part of parts) {
    using encoder = loaded[part] === undefined ? encoders[part].load() : undefined;
    const encode = (loaded[part] ?? encoder?.encode) as Encode;
    examples = [];
    for (const samples of lists)
      for await (const batch of loader.read(samples, [encoders[part].input, ...others])) {
        encodings[part].push(encode(batch));
        // The pixels are not needed any more.
        examples.push({ ...batch, pixelValues: null, clipPixelValues: null });
      }
  }
  return { examples, encodings };
}

/** Returns all batches as one, but the last, which is that of the null image. */
function joined(
  models: BatchModels,
  { examples, encodings }: EncodedParts,
  source: RandomSource,
): HeldOutRows {
  const draw = (like: Tensor): Tensor => randn(like.shape, { ...source, dtype: like.dtype });
  return tidy(() => {
    const encoded = examples.map((batch, i) => {
      const encode = Object.fromEntries(parts.map((part) => [part, () => encodings[part][i]]));
      return encodeBatch(encode as unknown as Record<Part, Encode>, models, batch, draw);
    });
    const nullFeatures = (encoded.pop() as EncodedBatch).imageFeatures;
    const whole = zipTensors(encoded as [EncodedBatch, ...EncodedBatch[]], (column) => cat(column));
    return { ...whole, nullFeatures };
  });
}
