/** @file What a run trains and what it reads, made from its options. */
import { adapterFileOf } from './checkpoint.js';
import { parts, type ResolvedTrainOptions } from './config.js';
import { DataLoader } from './data/data-loader.js';
import type { Rows } from './data/dataset.js';
import type { Size } from './data/image.js';
import type { FrozenModels } from './frozen-models.js';
import { loadAdapter } from './ip-adapter/adapter-file.js';
import { IPAdapter } from './ip-adapter/ip-adapter.js';
import { Resampler } from './ip-adapter/resampler.js';
import { type Device, Generator } from './torch/index.js';

/** The original's: SD 1.5 and ViT-H give 49,087,488 parameters. */
export function createAdapter(
  { unet, imageFeatureSize }: FrozenModels,
  config: ResolvedTrainOptions,
  startFrom: string | undefined,
  device: Device,
): IPAdapter {
  const dim = unet.config.crossAttentionDim[0] as number;
  const adapter = new IPAdapter(
    unet,
    new Resampler({
      dim,
      depth: 4,
      dimHead: 64,
      heads: 12,
      numQueries: config.numTokens,
      embeddingDim: imageFeatureSize,
      outputDim: dim,
      ffMult: 4,
    }),
  );
  if (startFrom === undefined) adapter.init(new Generator('cpu', config.seed));
  else loadAdapter(adapter, adapterFileOf(startFrom));
  adapter.to({ device });
  return adapter.requiresGrad_(true);
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
