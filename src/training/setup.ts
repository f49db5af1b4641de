/** @file What a run trains, what stays frozen and what it reads, made from its options. */

import { type ImageEncoderSource, openImageEncoder } from '../adapters/image-encoder.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { AdapterKind, SupportedKind } from '../adapters/kind.js';
import { kinds } from '../adapters/kinds.js';
import { assertFeaturesFit, contextDimOf, openAdapter } from '../adapters/open-adapter.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { DataLoader } from '../data/data-loader.js';
import type { Rows } from '../data/dataset.js';
import type { Backbone, DiffusionModel, PartOptions } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import type { Size } from '../images/image.js';
import type { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import { firstNonFinite } from '../optim/finite.js';
import { parts, type ResolvedTrainOptions } from '../options/train-options.js';
import { type Device, Generator } from '../torch/index.js';
import {
  type BatchModels,
  type EncoderSources,
  type FrozenOptions,
  frozenEncoders,
} from './encodings/frozen-encoders.js';
import type { LossModels } from './loss.js';

/** What a run needs of the frozen models in every step; their encoders may be replaced by a cache. */
export interface TrainingModels extends LossModels, BatchModels {
  tokenizer: PromptTokenizer;
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
  sizes: BatchModels['sizes'],
  options: FrozenOptions,
): TrainingModels {
  return {
    ...{ objective, backbone, latents: model.latents },
    tokenizer: model.tokenizer(),
    imageProcessor: imageEncoder.preprocess,
    nullImage: kind.nullImage,
    sizes,
    encoders: frozenEncoders(model, imageEncoder, kind.feature, options),
  };
}

/** What of the options an adapter is made by. */
type AdapterOptions = Pick<ResolvedTrainOptions, 'kind' | 'numTokens' | 'seed'>;

/** What an adapter is made for. */
export interface AdapterSurroundings {
  backbone: Pick<Backbone, 'sites'>;
  imageEncoder: Pick<ImageEncoderSource, 'folder' | 'widths'>;
}

/**
 * Returns a new adapter, or one of the kind, sizes and weights of a file, ready to be trained.
 * @param startFrom an adapter's file
 * @throws CheckpointError where what is in the file does not fit the models or the options; ConfigError where the
 * options do not go together
 */
export function createAdapter(
  surroundings: AdapterSurroundings,
  options: AdapterOptions,
  startFrom: string | undefined,
  device: Device,
): { adapter: IPAdapter; kind: AdapterKind } {
  const { adapter, kind } =
    startFrom === undefined
      ? newAdapter(surroundings, options)
      : openedAdapter(surroundings, options, startFrom);
  adapter.to({ device });
  return { adapter: adapter.requiresGrad_(true), kind };
}

function newAdapter(
  { backbone: { sites }, imageEncoder: { widths } }: AdapterSurroundings,
  { kind: name = 'plus', numTokens, seed }: AdapterOptions,
): { adapter: IPAdapter; kind: AdapterKind } {
  const kind = kinds.find((one) => one.name === name) as SupportedKind;
  const { defaultTokens, create } = kind.projection;
  if (defaultTokens === null && numTokens !== undefined)
    throw new ConfigError(
      `--num-tokens is ${numTokens}, but an ${kind.title} has a token for each of the image encoder's; leave it out`,
    );
  const projection = create({
    embeddingDim: widths[kind.feature],
    crossAttentionDim: contextDimOf(sites),
    numTokens: numTokens ?? defaultTokens ?? 0,
  });
  return { adapter: new IPAdapter(sites, projection).init(new Generator('cpu', seed)), kind };
}

function openedAdapter(
  { backbone: { sites }, imageEncoder: { folder, widths } }: AdapterSurroundings,
  { kind: name, numTokens }: AdapterOptions,
  startFrom: string,
): { adapter: IPAdapter; kind: AdapterKind } {
  const opened = openAdapter(startFrom, sites);
  const { module: adapter, kind, file } = opened;
  try {
    if (name !== undefined && name !== kind.name)
      throw new CheckpointError(`${file} is an ${kind.title}, and --kind is ${name}; leave --kind out.`);
    assertFeaturesFit(opened, widths[kind.feature], folder);
    // The first step would blame the learning rate.
    const fault = firstNonFinite(adapter.namedParameters());
    if (fault !== undefined)
      throw new CheckpointError(
        `${fault.name} of ${file} has ${fault.value}: the file is damaged, or its training failed. Start from another one.`,
      );
    const tokens = adapter.image_proj.numTokens ?? 'one for each of the image encoder';
    if (numTokens !== undefined && tokens !== numTokens)
      throw new CheckpointError(
        `The image tokens of ${file} are ${tokens}, and --num-tokens is ${numTokens}; leave --num-tokens out.`,
      );
    return { adapter, kind };
  } catch (error) {
    adapter[Symbol.dispose]();
    throw error;
  }
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
