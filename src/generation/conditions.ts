/**
 * @file From prompts to what the denoising loop takes: text states, and one set of image tokens for each picture. Two
 * stages, since an adapter that is being trained needs only the second one anew.
 */

import type { IPAdapter } from '../adapters/ip-adapter.js';
import { assertFeaturesFit, type OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { ImageFit, ResolvedJob } from '../options/generate-options.js';
import { cat, type DType, noGrad, type Tensor, tensor, tidy } from '../torch/index.js';
import type { Conditions } from './denoise.js';
import {
  featuresOf,
  type LoadedSource,
  loadSource,
  projectFeatures,
  weightedMean,
  zeroFeatures,
} from './image-prompt.js';
import type { PipelineModels } from './pipeline-models.js';

/** What encoders make of the prompts of n jobs. */
export interface EncodedPrompts {
  /** The text encoder's last hidden state, [n, 77, crossAttentionDim] both. */
  text: Tensor;
  negativeText: Tensor;
  images?: EncodedImages;
}

interface EncodedImages {
  /** Each list of image prompts: its features, a row for each picture, and the rows' weights. */
  lists: { features: Tensor; weights: number[] }[];
  /** For each job the number of its list. */
  listOf: number[];
  /** Features that stand for no picture, one row. */
  zero: Tensor;
}

type PromptModels = Pick<PipelineModels, 'textEncoder' | 'tokenizer' | 'encoder' | 'adapter' | 'device'>;

/**
 * The conditions of a batch of pictures, to be given to `releaseConditions` after use.
 * @throws as `encodePrompts`
 */
export async function makeConditions(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  negativePrompt: string,
  fit: ImageFit,
): Promise<Conditions> {
  const encoded = await encodePrompts(models, jobs, negativePrompt, fit);
  const conditions = conditionsOf(models.adapter?.module, encoded);
  releaseImages(encoded);
  return conditions;
}

/** Lets go of what `makeConditions` made. */
export function releaseConditions(conditions: Conditions): void {
  conditions.text.dispose();
  conditions.negativeText.dispose();
  releaseTokens(conditions);
}

/**
 * All that needs the encoders, to be given to `releasePrompts` after use.
 * @throws ConfigError where adapter or encoder are missing, or only some jobs have image prompts; ImageError,
 * CheckpointError where a file cannot be read, or holds features of another encoder
 */
export async function encodePrompts(
  models: PromptModels,
  jobs: readonly ResolvedJob[],
  negativePrompt: string,
  fit: ImageFit,
): Promise<EncodedPrompts> {
  // Several pictures of one prompt share its list, which is then encoded once.
  const lists = [...new Set(jobs.map(({ imagePrompts }) => imagePrompts))];
  const prompts = await Promise.all(
    lists.map((list) =>
      Promise.all(list.map(async ({ image, weight }) => ({ source: await loadSource(image), weight }))),
    ),
  );
  return tidy(() => {
    const text = encodeTexts(
      models,
      jobs.map(({ prompt }) => prompt),
    );
    const negativeText = encodeTexts(
      models,
      jobs.map(() => negativePrompt),
    );
    if (prompts.every((list) => list.length === 0)) return { text, negativeText };
    if (prompts.some((list) => list.length === 0))
      throw new ConfigError('Expected image prompts for every picture, or for none');
    const { adapter } = models;
    if (adapter === undefined)
      throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');

    const { takes, embeddingDim } = adapter.module.image_proj;
    const file = prompts
      .flat()
      .map(({ source }) => source)
      .find((source) => typeof source === 'string');
    const images = {
      lists: prompts.map((list) => encodeImages(models, adapter, list, fit)),
      listOf: jobs.map(({ imagePrompts }) => lists.indexOf(imagePrompts)),
      zero: zeroFeatures(takes, models.encoder, file, embeddingDim),
    };
    return { text, negativeText, images };
  });
}

/**
 * The rest, by the adapter as it is now. Texts are shared with the prompts, image tokens are new.
 * @param adapter needed for image prompts
 */
export function conditionsOf(
  adapter: IPAdapter | undefined,
  { text, negativeText, images }: EncodedPrompts,
): Conditions {
  if (adapter === undefined || images === undefined) return { text, negativeText };
  return { text, negativeText, image: { adapter, ...tokensOf(adapter, images, text.dtype) } };
}

/** Lets go of what `conditionsOf` made. */
export function releaseTokens({ image }: Conditions): void {
  image?.tokens.dispose();
  image?.negativeTokens.dispose();
}

/** Lets go of what `encodePrompts` made. */
export function releasePrompts(encoded: EncodedPrompts): void {
  encoded.text.dispose();
  encoded.negativeText.dispose();
  releaseImages(encoded);
}

function releaseImages({ images }: EncodedPrompts): void {
  images?.zero.dispose();
  for (const { features } of images?.lists ?? []) features.dispose();
}

/** The text encoder's last hidden state of each text, [n, 77, crossAttentionDim]; equal texts are encoded once. */
function encodeTexts({ textEncoder, tokenizer, device }: PromptModels, texts: readonly string[]): Tensor {
  using _ = noGrad();
  return tidy(() => {
    const distinct = [...new Set(texts)];
    const ids = distinct.flatMap((text) => tokenizer.encode(text));
    const inputIds = tensor(ids, [distinct.length, tokenizer.maxLength], 'int64').to(device);
    const { lastHiddenState } = textEncoder.call(inputIds);
    const rows = tensor(
      texts.map((text) => distinct.indexOf(text)),
      [texts.length],
      'int64',
    );
    return lastHiddenState.indexSelect(0, rows.to(device));
  });
}

interface LoadedPrompt {
  source: LoadedSource;
  weight: number;
}

function encodeImages(
  { encoder }: PromptModels,
  adapter: OpenedAdapter,
  prompts: readonly LoadedPrompt[],
  fit: ImageFit,
): { features: Tensor; weights: number[] } {
  // What counts not at all must not change a bit.
  const counting = prompts.filter(({ weight }) => weight > 0);
  if (counting.length === 0) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  const features = counting.map(({ source }) => {
    const found = featuresOf(source, encoder, adapter.module.image_proj.takes, fit);
    assertFeaturesFit(
      adapter,
      found.shape.at(-1) as number,
      typeof source === 'string' ? source : (encoder?.folder as string),
    );
    return found;
  });
  const weights = counting.flatMap(({ weight }, i) =>
    Array<number>(features[i]?.shape[0] as number).fill(weight),
  );
  return { features: cat(features), weights };
}

/** Of the image prompts and of the zero image, [n, numTokens, crossAttentionDim] both */
function tokensOf(
  adapter: IPAdapter,
  { lists, listOf, zero }: EncodedImages,
  dtype: DType,
): { tokens: Tensor; negativeTokens: Tensor } {
  return tidy(() => {
    const ofLists = lists.map(({ features, weights }) =>
      weightedMean(projectFeatures(adapter, features), weights),
    );
    const negative = projectFeatures(adapter, zero);
    return {
      tokens: cat(listOf.map((list) => ofLists[list] as Tensor)).to(dtype),
      negativeTokens: negative.to(dtype).expand(listOf.length, -1, -1).contiguous(),
    };
  });
}
