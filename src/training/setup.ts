/** @file What a run trains and what it reads, made from its options. */

import { adapterFileOf } from '../adapters/adapter-path.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import { assertFeaturesFit, openAdapter } from '../adapters/open-adapter.js';
import { Resampler } from '../adapters/resampler.js';
import { CheckpointError } from '../base/errors.js';
import { DataLoader } from '../data/data-loader.js';
import type { Rows } from '../data/dataset.js';
import type { FrozenModels } from '../diffusion/frozen-models.js';
import type { Size } from '../images/image.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { firstNonFinite } from '../optim/finite.js';
import { parts, type ResolvedTrainOptions } from '../options/train-options.js';
import { type Device, Generator } from '../torch/index.js';

/**
 * A new adapter, or one of the sizes and weights of a file, ready to be trained.
 * @param startFrom an adapter's file or folder, or a name on the Hub
 * @throws CheckpointError where what is in the file is no IP-Adapter Plus, or does not fit the models or `numTokens`
 */
export function createAdapter(
  { unet, imageFeatureSize }: Pick<FrozenModels, 'unet' | 'imageFeatureSize'>,
  {
    numTokens,
    seed,
    imageEncoderPath,
  }: Pick<ResolvedTrainOptions, 'numTokens' | 'seed' | 'imageEncoderPath'>,
  startFrom: string | undefined,
  device: Device,
): IPAdapter {
  let adapter: IPAdapter;
  if (startFrom === undefined) {
    adapter = new IPAdapter(unet, newResampler(unet, imageFeatureSize, numTokens));
    adapter.init(new Generator('cpu', seed));
  } else {
    adapter = openPlus(startFrom, { unet, imageFeatureSize }, { numTokens, imageEncoderPath });
  }
  adapter.to({ device });
  return adapter.requiresGrad_(true);
}

/** The adapter of a file, checked. */
function openPlus(
  startFrom: string,
  { unet, imageFeatureSize }: Pick<FrozenModels, 'unet' | 'imageFeatureSize'>,
  { numTokens, imageEncoderPath }: Pick<ResolvedTrainOptions, 'numTokens' | 'imageEncoderPath'>,
): IPAdapter {
  const opened = openAdapter(adapterFileOf(startFrom), unet);
  const { module: adapter, file, title } = opened;
  try {
    if (!(adapter.image_proj instanceof Resampler))
      throw new CheckpointError(
        `Expected an IP-Adapter Plus in ${file} but it is ${title}, which cannot be trained yet; use an ip-adapter-plus file.`,
      );
    assertFeaturesFit(opened, imageFeatureSize, imageEncoderPath);
    // The first step would blame the learning rate.
    const fault = firstNonFinite(adapter.namedParameters());
    if (fault !== undefined)
      throw new CheckpointError(
        `Expected finite weights in ${file} but ${fault.name} has ${fault.value}; the file is damaged, or its training failed. Start from another one`,
      );
    if (adapter.numTokens !== numTokens)
      throw new CheckpointError(
        `Expected ${numTokens} image tokens in ${file} but received ${adapter.numTokens}; give --num-tokens ${adapter.numTokens}.`,
      );
    return adapter;
  } catch (error) {
    for (const parameter of adapter.parameters()) parameter.dispose();
    throw error;
  }
}

/**
 * The original's: for SD 1.x and 2.x it and the programs that load its files take 12 heads for granted. A model that is
 * narrower than 12 × 64 gets fewer, of its own width together.
 */
function newResampler({ config }: UNet2DConditionModel, embeddingDim: number, numQueries: number): Resampler {
  const dim = config.crossAttentionDim[0] as number;
  const dimHead = 64;
  const heads = Math.min(12, Math.max(1, Math.round(dim / dimHead)));
  return new Resampler({
    dim,
    depth: 4,
    dimHead,
    heads,
    numQueries,
    embeddingDim,
    outputDim: dim,
    ffMult: 4,
  });
}

/** Reads the rows that a run trains on. */
export function createLoader(
  { tokenizer, imageProcessor, encoders }: FrozenModels,
  config: ResolvedTrainOptions,
  rows: Rows,
  buckets: Size[] | undefined,
): DataLoader {
  const { resolution, randomFlip, trainBatchSize, gradientAccumulationSteps, seed, cache = [] } = config;
  return new DataLoader({
    rows,
    tokenizer,
    imageProcessor,
    resolution,
    buckets,
    randomFlip,
    batchSize: trainBatchSize * gradientAccumulationSteps,
    // A picture in a tar takes three turns: read, header, pixels; and the engine gives one a step.
    prefetch: config.dataloaderNumWorkers || 3,
    seed,
    // What is cached takes nothing of the rows.
    inputs: parts.filter((part) => !cache.includes(part)).map((part) => encoders[part].input),
  });
}
