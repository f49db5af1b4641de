/** @file What a run trains, what stays frozen and what it reads, made from its options. */

import { adapterFileOf } from '../adapters/adapter-path.js';
import { type ImageEncoderSource, openImageEncoder } from '../adapters/image-encoder.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { AdapterKind } from '../adapters/kind.js';
import { assertFeaturesFit, contextDimOf, openAdapter } from '../adapters/open-adapter.js';
import { plus } from '../adapters/plus.js';
import { CheckpointError } from '../base/errors.js';
import { DataLoader } from '../data/data-loader.js';
import type { Rows } from '../data/dataset.js';
import type { Backbone, DiffusionModel, LatentSpace, PartOptions } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/stable-diffusion.js';
import type { Size } from '../images/image.js';
import type { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import type { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import type { AttentionSite } from '../models/layers/attention-site.js';
import { parts, type ResolvedTrainOptions } from '../options/train-options.js';
import { type Device, Generator } from '../torch/index.js';
import { type EncoderSources, type FrozenOptions, frozenEncoders } from './encodings/frozen-encoders.js';
import type { LossModels } from './loss.js';

/** What a run needs of the frozen models in every step; their encoders may be replaced by a cache. */
export interface TrainingModels extends LossModels {
  latents: LatentSpace;
  tokenizer: ClipTokenizer;
  /** Images → pixel values as the image encoder takes them. */
  imageProcessor: ClipImageProcessor;
  encoders: EncoderSources;
}

/** Models of which the small files have been read, and the backbone. */
export interface OpenedModels extends LossModels {
  model: DiffusionModel;
  imageEncoder: ImageEncoderSource;
}

/**
 * Opens the frozen models. Cheap faults come first: the small files are read before the weights.
 * @throws ConfigError, CheckpointError where a file is missing or damaged, or a model is not supported
 */
export function openModels(modelPath: string, imageEncoderPath: string, options: PartOptions): OpenedModels {
  const model = openDiffusionModel(modelPath);
  const imageEncoder = openImageEncoder(imageEncoderPath);
  const objective = model.objective(options.device);
  model.tokenizer();
  return { model, imageEncoder, objective, backbone: model.loadBackbone(options) };
}

/** @param kind of the adapter, which says what it reads of the image encoder */
export function trainingModels(
  { model, imageEncoder, objective, backbone }: OpenedModels,
  kind: AdapterKind,
  options: FrozenOptions,
): TrainingModels {
  return {
    ...{ objective, backbone, latents: model.latents },
    tokenizer: model.tokenizer(),
    imageProcessor: imageEncoder.preprocess,
    encoders: frozenEncoders(model, imageEncoder, kind.feature, options),
  };
}

/**
 * Returns a new adapter, or one of the sizes and weights of a file, ready to be trained.
 * @param startFrom an adapter's file or folder, or a name on the Hub
 * @throws CheckpointError where what is in the file is no IP-Adapter Plus, or does not fit the models or `numTokens`
 */
export function createAdapter(
  {
    backbone,
    imageEncoder,
  }: { backbone: Pick<Backbone, 'sites'>; imageEncoder: Pick<ImageEncoderSource, 'folder' | 'widths'> },
  { numTokens, seed }: Pick<ResolvedTrainOptions, 'numTokens' | 'seed'>,
  startFrom: string | undefined,
  device: Device,
): { adapter: IPAdapter; kind: AdapterKind } {
  const { adapter, kind } =
    startFrom === undefined
      ? newAdapter(backbone.sites, imageEncoder.widths, numTokens, seed)
      : openedAdapter(backbone.sites, imageEncoder, numTokens, startFrom);
  adapter.to({ device });
  return { adapter: adapter.requiresGrad_(true), kind };
}

function newAdapter(
  sites: readonly AttentionSite[],
  widths: ImageEncoderSource['widths'],
  numTokens: number,
  seed: number,
): { adapter: IPAdapter; kind: AdapterKind } {
  const embeddingDim = widths[plus.feature];
  const projection = plus.projection.create({
    embeddingDim,
    crossAttentionDim: contextDimOf(sites),
    numTokens,
  });
  return { adapter: new IPAdapter(sites, projection).init(new Generator('cpu', seed)), kind: plus };
}

function openedAdapter(
  sites: readonly AttentionSite[],
  { folder, widths }: Pick<ImageEncoderSource, 'folder' | 'widths'>,
  numTokens: number,
  startFrom: string,
): { adapter: IPAdapter; kind: AdapterKind } {
  const opened = openAdapter(adapterFileOf(startFrom), sites);
  const { module: adapter, kind, file } = opened;
  if (kind !== plus)
    throw new CheckpointError(
      `${file} is an ${kind.title}, which cannot be trained yet; use an ip-adapter-plus file.`,
    );
  assertFeaturesFit(opened, widths[kind.feature], folder);
  if (adapter.image_proj.numTokens !== numTokens)
    throw new CheckpointError(
      `${file} makes ${adapter.image_proj.numTokens} image tokens, and --num-tokens is ${numTokens}; give --num-tokens ${adapter.image_proj.numTokens}.`,
    );
  return { adapter, kind };
}

/** Reads the rows that a run trains on. */
export function createLoader(
  { tokenizer, imageProcessor, encoders }: Pick<TrainingModels, 'tokenizer' | 'imageProcessor' | 'encoders'>,
  config: ResolvedTrainOptions,
  rows: Rows,
  buckets: Size[] | undefined,
): DataLoader {
  const { resolution, randomFlip, batchSize, gradientAccumulationSteps, seed, cache = [] } = config;
  return new DataLoader({
    rows,
    tokenizer,
    imageProcessor,
    resolution,
    buckets,
    randomFlip,
    batchSize: batchSize * gradientAccumulationSteps,
    // A picture in a tar takes three turns: read, header, pixels; and the engine gives one a step.
    prefetch: config.dataloaderNumWorkers || 3,
    seed,
    // What is cached takes nothing of the rows.
    inputs: parts.filter((part) => !cache.includes(part)).map((part) => encoders[part].input),
  });
}
