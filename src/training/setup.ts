/** @file Creates the models, the adapter and the data loader of a run from its options. */

import type { ImageProcessor } from '../adapters/image-encoder.js';
import { type ImageEncoderSource, openImageEncoder } from '../adapters/image-encoder.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { AdapterKind, SupportedKind } from '../adapters/kind.js';
import { kinds } from '../adapters/kinds.js';
import { assertEncoderFits, contextDimOf, openAdapter } from '../adapters/open-adapter.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import type { Size } from '../base/rgb-image.js';
import type { Share } from '../data/batch-plan.js';
import { DataLoader } from '../data/data-loader.js';
import type { Dataset } from '../data/dataset.js';
import type { Input } from '../data/examples.js';
import { referenceOptions } from '../data/reference-options.js';
import type { TrainRows } from '../data/train-rows.js';
import type { Backbone, DiffusionModel, PartOptions, PromptTokenizer } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { parts, type ResolvedTrainOptions } from '../options/train-options.js';
import { firstNonFinite } from '../torch/finite.js';
import { type Device, Generator } from '../torch/index.js';
import {
  type BatchModels,
  type EncoderSources,
  type FrozenOptions,
  frozenEncoders,
} from './encodings/frozen-encoders.js';
import type { LossModels } from './loss.js';

/** The frozen models that every step uses. A cache may replace their encoders. */
export interface TrainingModels extends LossModels, BatchModels {
  backbonePath: string;
  tokenizer: PromptTokenizer;
  /** Turns images into the pixel values that the image encoder takes. */
  imageProcessor: ImageProcessor;
  encoders: EncoderSources;
}

/** The backbone, loaded, and the other frozen models, of which only the small files have been read. */
export interface OpenedModels extends LossModels {
  model: DiffusionModel;
  imageEncoder: ImageEncoderSource;
}

/**
 * Opens the frozen models and loads the backbone. The small files are read first, so that most faults show at once.
 * @throws ConfigError, CheckpointError where a file is missing or damaged, or a model is not supported
 */
export function openModels(modelPath: string, imageEncoderPath: string, options: PartOptions): OpenedModels {
  const model = openDiffusionModel(modelPath);
  if (model.takesMask)
    throw new ConfigError(
      `--model (model) is ${modelPath}, a model for inpainting, whose UNet also takes a mask; train with a text-to-image model: its adapter works with both`,
    );
  const imageEncoder = openImageEncoder(imageEncoderPath);
  const objective = model.objective(options.device);
  model.tokenizer();
  return { model, imageEncoder, objective, backbone: model.loadBackbone(options) };
}

/**
 * Returns the models that the steps use.
 * @param kind the kind of the adapter, which decides which output of the image encoder it reads
 * @param sizes returns the size conditioning of a batch; null for a family without
 */
export function trainingModels(
  { model, imageEncoder, objective, backbone }: OpenedModels,
  kind: AdapterKind,
  sizes: BatchModels['sizes'],
  options: FrozenOptions,
): TrainingModels {
  return {
    ...{ objective, backbone, latents: model.latents },
    backbonePath: model.backbonePath,
    tokenizer: model.tokenizer(),
    imageProcessor: imageEncoder.preprocess,
    nullImage: kind.nullImage,
    sizes,
    encoders: frozenEncoders(model, imageEncoder, kind.feature, options),
  };
}

type AdapterOptions = Pick<ResolvedTrainOptions, 'kind' | 'numTokens' | 'seed'>;

/** The frozen models that decide the sizes of an adapter. */
export interface AdapterModels {
  backbone: Pick<Backbone, 'sites'>;
  imageEncoder: Pick<ImageEncoderSource, 'folder' | 'type' | 'widths'>;
}

/**
 * Returns a new adapter, or the adapter of a file, with gradients enabled.
 * @param startFrom the file of an adapter; undefined for a new one
 * @throws CheckpointError where the file does not fit the models or the options; ConfigError where the options
 * contradict each other
 */
export function createAdapter(
  models: AdapterModels,
  options: AdapterOptions,
  startFrom: string | undefined,
  device: Device,
): { adapter: IPAdapter; kind: AdapterKind } {
  const { adapter, kind } =
    startFrom === undefined ? newAdapter(models, options) : openedAdapter(models, options, startFrom);
  adapter.to({ device });
  return { adapter: adapter.requiresGrad_(true), kind };
}

function newAdapter(
  { backbone: { sites }, imageEncoder: { widths } }: AdapterModels,
  { kind: name = 'plus', numTokens, seed }: AdapterOptions,
): { adapter: IPAdapter; kind: AdapterKind } {
  const kind = kinds.find((candidate) => candidate.name === name) as SupportedKind;
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
  { backbone: { sites }, imageEncoder }: AdapterModels,
  { kind: name, numTokens }: AdapterOptions,
  startFrom: string,
): { adapter: IPAdapter; kind: AdapterKind } {
  const opened = openAdapter(startFrom, sites);
  const { module: adapter, kind, file } = opened;
  try {
    if (name !== undefined && name !== kind.name)
      throw new CheckpointError(`${file} is an ${kind.title}, and --kind is ${name}; leave --kind out.`);
    assertEncoderFits(opened, imageEncoder);
    // Otherwise the NaN guard would blame the learning rate in the first step.
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

/** Returns the loader of the rows that a run trains on. It reads only the inputs of encoders that are not cached. */
export function createLoader(
  { tokenizer, imageProcessor, encoders }: Pick<TrainingModels, 'tokenizer' | 'imageProcessor' | 'encoders'>,
  config: ResolvedTrainOptions,
  { rows, shards, groups, mixture, dropRatesOf }: Omit<TrainRows, Exclude<keyof Dataset, 'rows' | 'shards'>>,
  buckets: Size[] | undefined,
  { rank, worldSize }: Share = { rank: 0, worldSize: 1 },
): DataLoader {
  const {
    openShards,
    resolution,
    randomFlip,
    reducedDecode,
    referencesPerRow,
    batchSize,
    gradientAccumulationSteps,
    seed,
    cache = [],
  } = config;
  return new DataLoader({
    ...{ rows, shards, openShards, groups, referencesPerRow, mixture, dropRatesOf },
    references: referenceOptions(config),
    tokenizer,
    imageProcessor,
    resolution,
    buckets,
    randomFlip,
    reducedDecode,
    batchSize: batchSize * gradientAccumulationSteps * worldSize,
    share: { rank, worldSize },
    // An image in a tar takes three turns of the event loop (bytes, header, pixels), and there is one turn in each step.
    prefetch: config.dataloaderNumWorkers || 3,
    seed,
    // A cached part reads nothing of the rows.
    inputs: [
      ...parts.filter((part) => !cache.includes(part)).map((part) => encoders[part].input),
      ...lossInputs(config),
    ],
  });
}

/** Returns the inputs that the loss takes besides those of the encoders. */
export function lossInputs({ maskedLoss }: Pick<ResolvedTrainOptions, 'maskedLoss'>): Input[] {
  return maskedLoss ? ['lossMasks'] : [];
}
