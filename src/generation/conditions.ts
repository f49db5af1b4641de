/**
 * @file From prompts to what the denoising loop takes: conditioning, and image tokens for each image. Two stages, since an
 * adapter that is being trained needs only the second one again.
 */

import type { ImagePrompt } from '../adapters/image-prompt.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import { assertFeaturesFit } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { Size } from '../base/rgb-image.js';
import type { Conditioning, ImageSizes } from '../diffusion/conditioning.js';
import type { ImageFit, ResolvedJob, WeightedImage } from '../options/generate-options.js';
import { cat, type DType, mapTensors, type Tensor, tensor, tensorsOf, tidy, zeros } from '../torch/index.js';
import type { Prompts } from './denoise.js';
import {
  featuresOf,
  type LoadedSource,
  loadSource,
  nullFeatures,
  projectFeatures,
  weightedMean,
} from './image-prompt.js';
import type { PipelineAdapter, PipelineModels } from './pipeline-models.js';

/** What encoders make of the prompts of n jobs. */
export interface EncodedPrompts {
  /** A row for each job, both. */
  positive: Conditioning;
  negative: Conditioning;
  /** For each adapter; null where no job has an image for it. */
  images: readonly (EncodedImages | null)[];
}

interface EncodedImages {
  adapter: IPAdapter;
  /** Each list of image prompts: its features, a row for each image, and the rows' weights. */
  lists: { features: Tensor; weights: number[] }[];
  /** For each job the number of its list. */
  listOf: number[];
  /** Features that stand for no image, one row. */
  nullFeatures: Tensor;
}

type PromptModels = Pick<
  PipelineModels,
  'textEncoder' | 'tokenizer' | 'absentNegative' | 'sizeConditioning' | 'adapters' | 'device'
>;

/** What images are generated with, beside what they show. */
export interface PromptSettings extends Size {
  /** Undefined is not the empty text: for some models it means no text at all. */
  negativePrompt?: string | undefined;
  imageFit: ImageFit;
  clipSkip: number;
  /** Of SDXL, (height, width), (top, left) and (height, width), in pixels; default: an image that is not cut. */
  originalSize?: Pair | undefined;
  cropsCoordsTopLeft?: Pair | undefined;
  targetSize?: Pair | undefined;
}

type Pair = readonly [number, number];

/** How strongly the images of an adapter count, and when. */
export type ImageSettings = Pick<ImagePrompt, 'scale' | 'range'>;

/**
 * Returns the prompts of a batch of images, to be given to `releaseTensors` after use.
 * @param images for each adapter
 * @throws as `encodePrompts`
 */
export async function makePrompts(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  settings: PromptSettings,
  images: readonly ImageSettings[],
): Promise<Prompts> {
  const encoded = await encodePrompts(models, jobs, settings);
  const prompts = promptsOf(encoded, images);
  releaseTensors(encoded.images);
  return prompts;
}

/**
 * Does all that needs the encoders. The result is to be given to `releaseTensors` after use.
 * @throws ConfigError where an encoder is missing, or only some jobs have images for an adapter; ImageError,
 * CheckpointError where a file cannot be read, or holds features of another encoder
 */
export async function encodePrompts(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  settings: PromptSettings,
): Promise<EncodedPrompts> {
  const prompts = await Promise.all(models.adapters.map((_, i) => loadPrompts(jobs, i)));
  return tidy(() => {
    const { absentNegative, sizeConditioning, device } = models;
    const { negativePrompt, imageFit: fit } = settings;
    const texts = encodeTexts(
      models,
      jobs.map(({ prompt }) => prompt),
      settings.clipSkip,
    );
    const negativeTexts =
      negativePrompt === undefined && absentNegative === 'zeros'
        ? mapTensors(texts, (states) => zeros(states.shape, states))
        : encodeTexts(
            models,
            jobs.map(() => negativePrompt ?? ''),
            settings.clipSkip,
          );
    const size = imageSizes(settings, models);
    const sizes = () =>
      size &&
      sizeConditioning?.(
        jobs.map(() => size),
        device,
      );
    return {
      positive: { ...texts, ...sizes() },
      negative: { ...negativeTexts, ...sizes() },
      images: models.adapters.map((adapter, i) => encodeImages(adapter, prompts[i] as LoadedPrompts, fit)),
    };
  });
}

/**
 * Does the rest, with the adapters as they are now. The conditioning is shared with the encoded prompts, image tokens are
 * new.
 * @param settings for each adapter
 */
export function promptsOf(
  { positive, negative, images }: EncodedPrompts,
  settings: readonly ImageSettings[],
): Prompts {
  const prompts = images.flatMap((encoded, i) => {
    if (encoded === null) return [];
    const { scale, range } = settings[i] as ImageSettings;
    return [{ adapter: encoded.adapter, ...tokensOf(encoded, positive.text.dtype), scale, range }];
  });
  return { positive, negative, images: prompts };
}

/** Releases the tensors of a record. */
export function releaseTensors(record: unknown): void {
  for (const tensor of tensorsOf(record)) tensor.dispose();
}

/**
 * What an image of a family that knows sizes is described by; null for the others.
 * @throws ConfigError where sizes are given for one of the others
 */
function imageSizes(
  { width, height, originalSize, cropsCoordsTopLeft, targetSize }: PromptSettings,
  { sizeConditioning }: Pick<PromptModels, 'sizeConditioning'>,
): ImageSizes | null {
  if (sizeConditioning === null) {
    const given = Object.entries({ originalSize, cropsCoordsTopLeft, targetSize }).find(([, pair]) => pair);
    if (given !== undefined)
      throw new ConfigError(`${given[0]} is for SDXL, and this model does not know sizes; leave it out`);
    return null;
  }
  const sizeOf = ([height, width]: Pair): Size => ({ width, height });
  const [top, left] = cropsCoordsTopLeft ?? [0, 0];
  return {
    original: originalSize ? sizeOf(originalSize) : { width, height },
    crop: { top, left },
    target: targetSize ? sizeOf(targetSize) : { width, height },
  };
}

/** The conditioning of each text, a row each; equal texts are encoded once. */
function encodeTexts(
  { textEncoder, tokenizer, device }: PromptModels,
  texts: readonly string[],
  clipSkip: number,
): Conditioning {
  return tidy(() => {
    const distinct = [...new Set(texts)];
    const ids = distinct.flatMap((text) => tokenizer.encode(text));
    const inputIds = tensor(ids, [distinct.length, ...tokenizer.shape], 'int64').to(device);
    const rows = tensor(
      texts.map((text) => distinct.indexOf(text)),
      [texts.length],
      'int64',
    ).to(device);
    return mapTensors(textEncoder.condition(inputIds, clipSkip), (states) => states.indexSelect(0, rows));
  });
}

/** The image prompts of one adapter, in memory. */
interface LoadedPrompts {
  lists: { source: LoadedSource; weight: number }[][];
  /** For each job the number of its list. */
  listOf: number[];
}

async function loadPrompts(jobs: readonly ResolvedJob[], adapter: number): Promise<LoadedPrompts> {
  const ofJobs = jobs.map(({ imagePrompts }) => imagePrompts[adapter] as readonly WeightedImage[]);
  // Several jobs may share a list, which is then loaded and encoded once.
  const lists = [...new Set(ofJobs)];
  const loaded = lists.map((list) =>
    Promise.all(list.map(async ({ image, weight }) => ({ source: await loadSource(image), weight }))),
  );
  return { lists: await Promise.all(loaded), listOf: ofJobs.map((list) => lists.indexOf(list)) };
}

/** @returns null where no list has an image */
function encodeImages(
  adapter: PipelineAdapter,
  { lists, listOf }: LoadedPrompts,
  fit: ImageFit,
): EncodedImages | null {
  if (lists.every((list) => list.length === 0)) return null;
  if (lists.some((list) => list.length === 0))
    throw new ConfigError('Expected image prompts for every image, or for none');
  const sources = lists.flat().map(({ source }) => source);
  const file = sources.find((source) => typeof source === 'string');
  return {
    adapter: adapter.module,
    lists: lists.map((list) => encodeList(adapter, list, fit)),
    listOf,
    nullFeatures: nullFeatures(adapter, adapter.imageEncoder, file),
  };
}

function encodeList(
  adapter: PipelineAdapter,
  prompts: LoadedPrompts['lists'][number],
  fit: ImageFit,
): { features: Tensor; weights: number[] } {
  const { imageEncoder, kind, module } = adapter;
  // An image of weight 0 must not change a bit.
  const counting = prompts.filter(({ weight }) => weight > 0);
  if (counting.length === 0) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  const { device } = module.parameters()[0] as Tensor;
  const features = counting.map(({ source }) => {
    const found = featuresOf(source, imageEncoder, kind.feature, fit);
    const origin = typeof source === 'string' ? source : (imageEncoder?.folder as string);
    assertFeaturesFit(adapter, found.shape.at(-1) as number, origin);
    // Those of a file are on the CPU.
    return found.to(device);
  });
  const weights = counting.flatMap(({ weight }, i) =>
    Array<number>(features[i]?.shape[0] as number).fill(weight),
  );
  return { features: cat(features), weights };
}

/** Of the image prompts and of the null image, [n, numTokens, contextDim] both */
function tokensOf(
  { adapter, lists, listOf, nullFeatures }: EncodedImages,
  dtype: DType,
): { tokens: Tensor; negativeTokens: Tensor } {
  return tidy(() => {
    const ofLists = lists.map(({ features, weights }) =>
      weightedMean(projectFeatures(adapter, features), weights),
    );
    const negative = projectFeatures(adapter, nullFeatures);
    return {
      tokens: cat(listOf.map((list) => ofLists[list] as Tensor)).to(dtype),
      negativeTokens: negative.to(dtype).expand(listOf.length, -1, -1).contiguous(),
    };
  });
}
