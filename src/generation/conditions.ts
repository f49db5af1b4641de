/**
 * @file From prompts to what the denoising loop takes: conditioning, and image tokens for each image. Two stages, since an
 * adapter that is being trained needs only the second one again.
 */

import type { ImagePrompt } from '../adapters/image-prompt.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import { assertFeaturesFit, type OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { Size } from '../base/rgb-image.js';
import type { Conditioning, ImageSizes } from '../diffusion/conditioning.js';
import type { ImageFit, ResolvedJob } from '../options/generate-options.js';
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
import type { PipelineModels } from './pipeline-models.js';

/** What encoders make of the prompts of n jobs. */
export interface EncodedPrompts {
  /** A row for each job, both. */
  positive: Conditioning;
  negative: Conditioning;
  images?: EncodedImages;
}

interface EncodedImages {
  /** Each list of image prompts: its features, a row for each image, and the rows' weights. */
  lists: { features: Tensor; weights: number[] }[];
  /** For each job the number of its list. */
  listOf: number[];
  /** Features that stand for no image, one row. */
  nullFeatures: Tensor;
}

type PromptModels = Pick<
  PipelineModels,
  'textEncoder' | 'tokenizer' | 'absentNegative' | 'sizeConditioning' | 'imageEncoder' | 'adapter' | 'device'
>;

/** What images are drawn with, beside what they show. */
export interface PromptSettings extends Size {
  /** Undefined is not the empty text: some models take it for no text at all. */
  negativePrompt?: string | undefined;
  imageFit: ImageFit;
  clipSkip: number;
  /** Of SDXL, (height, width), (top, left) and (height, width), in pixels; default: an image that is not cut. */
  originalSize?: Pair | undefined;
  cropsCoordsTopLeft?: Pair | undefined;
  targetSize?: Pair | undefined;
}

type Pair = readonly [number, number];

/** How much image prompts count, and when. */
export type ImageSettings = Pick<ImagePrompt, 'scale' | 'range'>;

/**
 * Returns the prompts of a batch of images, to be given to `releaseTensors` after use.
 * @throws as `encodePrompts`
 */
export async function makePrompts(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  settings: PromptSettings & ImageSettings,
): Promise<Prompts> {
  const encoded = await encodePrompts(models, jobs, settings);
  const prompts = promptsOf(models.adapter?.module, encoded, settings);
  releaseTensors(encoded.images);
  return prompts;
}

/**
 * Does all that needs the encoders. The result is to be given to `releaseTensors` after use.
 * @throws ConfigError where adapter or encoder are missing, or only some jobs have image prompts; ImageError,
 * CheckpointError where a file cannot be read, or holds features of another encoder
 */
export async function encodePrompts(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  settings: PromptSettings,
): Promise<EncodedPrompts> {
  // Several images of one prompt share its list, which is then encoded once.
  const lists = [...new Set(jobs.map(({ imagePrompts }) => imagePrompts))];
  const prompts = await Promise.all(
    lists.map((list) =>
      Promise.all(list.map(async ({ image, weight }) => ({ source: await loadSource(image), weight }))),
    ),
  );
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
    const positive = { ...texts, ...sizes() };
    const negative = { ...negativeTexts, ...sizes() };
    if (prompts.every((list) => list.length === 0)) return { positive, negative };
    if (prompts.some((list) => list.length === 0))
      throw new ConfigError('Expected image prompts for every image, or for none');
    const { adapter } = models;
    if (adapter === undefined)
      throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');

    const file = prompts
      .flat()
      .map(({ source }) => source)
      .find((source) => typeof source === 'string');
    const images = {
      lists: prompts.map((list) => encodeImages(models, adapter, list, fit)),
      listOf: jobs.map(({ imagePrompts }) => lists.indexOf(imagePrompts)),
      nullFeatures: nullFeatures(adapter, models.imageEncoder, file),
    };
    return { positive, negative, images };
  });
}

/**
 * Does the rest, with the adapter as it is now. The conditioning is shared with the encoded prompts, image tokens are new.
 * @param adapter needed for image prompts
 */
export function promptsOf(
  adapter: IPAdapter | undefined,
  { positive, negative, images }: EncodedPrompts,
  { scale, range }: ImageSettings,
): Prompts {
  if (adapter === undefined || images === undefined) return { positive, negative, images: [] };
  const tokens = tokensOf(adapter, images, positive.text.dtype);
  return { positive, negative, images: [{ adapter, ...tokens, scale, range }] };
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

interface LoadedPrompt {
  source: LoadedSource;
  weight: number;
}

function encodeImages(
  { imageEncoder }: PromptModels,
  adapter: OpenedAdapter,
  prompts: readonly LoadedPrompt[],
  fit: ImageFit,
): { features: Tensor; weights: number[] } {
  // What counts not at all must not change a bit.
  const counting = prompts.filter(({ weight }) => weight > 0);
  if (counting.length === 0) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  const features = counting.map(({ source }) => {
    const found = featuresOf(source, imageEncoder, adapter.kind.feature, fit);
    assertFeaturesFit(
      adapter,
      found.shape.at(-1) as number,
      typeof source === 'string' ? source : (imageEncoder?.folder as string),
    );
    return found;
  });
  const weights = counting.flatMap(({ weight }, i) =>
    Array<number>(features[i]?.shape[0] as number).fill(weight),
  );
  return { features: cat(features), weights };
}

/** Of the image prompts and of the null image, [n, numTokens, contextDim] both */
function tokensOf(
  adapter: IPAdapter,
  { lists, listOf, nullFeatures }: EncodedImages,
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
