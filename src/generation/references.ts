/**
 * @file The reference images of one adapter: from files to features, and from features to image prompts. Two stages, since
 * an adapter that is being trained needs only the second one again.
 */
import type { ImagePrompt } from '../adapters/image-prompt.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import { assertFeaturesFit } from '../adapters/open-adapter.js';
import { sitePlan } from '../adapters/weight-types.js';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { ImageFit, ResolvedJob, WeightedImage } from '../options/generate-options.js';
import { influences } from '../options/reference-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { cat, type DType, type Tensor, tidy } from '../torch/index.js';
import { combineFeatures, combineTokens, type Reference } from './combine.js';
import {
  featuresOf,
  type ImageSource,
  type LoadedSource,
  loadSource,
  nullFeatures,
  projectFeatures,
} from './image-prompt.js';
import { loadMask } from './masks.js';
import { noiseImage } from './noise-image.js';
import type { PipelineAdapter } from './pipeline-adapters.js';

/** The references of one adapter in memory. */
export interface LoadedReferences {
  lists: { source: LoadedSource; weight: number }[][];
  /** For each job the number of its list. */
  listOf: number[];
  negative: LoadedSource | undefined;
  /** Empty: those of the jobs. */
  composition: LoadedSource[];
  /** [1, height, width] each */
  masks: Tensor[];
  settings: ReferenceSettings;
}

/** Features of the references of one adapter. */
export interface EncodedReferences {
  adapter: IPAdapter;
  lists: Reference[][];
  listOf: number[];
  composition: Reference[];
  /** Features for the negative side, where a reference has none of its own: one row; null where all have. */
  nullFeatures: Tensor | null;
  /** Features of a negative image, which replace the null image everywhere, [n, …]. */
  negative: Tensor | null;
  masks: Tensor[];
}

/** What prompts need to know of the images to come. */
export interface Frame {
  /** Height and width of the latents. */
  latents: readonly [height: number, width: number];
  /** The number of timesteps that the model was trained on. */
  trainedTimesteps: number;
}

/** Reads the images of all jobs for the i-th adapter. @throws ImageError where one cannot be read */
export async function loadReferences(
  jobs: readonly ResolvedJob[],
  adapter: number,
  settings: ReferenceSettings,
): Promise<LoadedReferences> {
  const ofJobs = jobs.map(({ imagePrompts }) => imagePrompts[adapter] as readonly WeightedImage[]);
  // Several jobs may share a list, which is then loaded and encoded once.
  const lists = [...new Set(ofJobs)];
  const hasImages = lists.some((list) => list.length > 0);
  const loadAll = (sources: readonly ImageSource[]): Promise<LoadedSource[]> =>
    Promise.all(hasImages ? sources.map(loadSource) : []);
  const loaded = lists.map((list) =>
    Promise.all(list.map(async ({ image, weight }) => ({ source: await loadSource(image), weight }))),
  );
  const [negative] = await loadAll(settings.negativeImage === undefined ? [] : [settings.negativeImage]);
  return {
    lists: await Promise.all(loaded),
    listOf: ofJobs.map((list) => lists.indexOf(list)),
    negative: hasImages ? withNoise(negative, settings) : undefined,
    composition: await loadAll(settings.compositionImages ?? []),
    masks: await Promise.all(hasImages ? (settings.masks ?? []).map(loadMask) : []),
    settings,
  };
}

function withNoise(
  image: LoadedSource | undefined,
  { negativeNoise: type, noiseStrength: strength = 1 }: ReferenceSettings,
): LoadedSource | undefined {
  if (type === undefined) return image;
  if (typeof image === 'string')
    throw new ConfigError(
      `--negative-noise (negativeNoise) is for images, and ${image} holds embeddings; leave one of them out`,
    );
  return noiseImage({ type, strength, image: image as RgbImage | undefined });
}

/**
 * Encodes the references of one adapter.
 * @returns null where no list has an image
 * @throws ConfigError where only some jobs have images, an encoder is missing, or masks do not fit the images
 */
export function encodeReferences(
  adapter: PipelineAdapter,
  { lists, listOf, negative, composition, masks, settings }: LoadedReferences,
  fit: ImageFit,
): EncodedReferences | null {
  if (lists.every((list) => list.length === 0)) return null;
  if (lists.some((list) => list.length === 0))
    throw new ConfigError('Expected image prompts for every image, or for none');
  for (const { length } of masks.length > 1 ? lists : [])
    if (length !== masks.length)
      throw new ConfigError(
        `--masks (masks) has ${masks.length} masks for ${length} --images (images); give one for all, or one for each`,
      );
  const { imageEncoder } = adapter;
  const { device } = adapter.module.parameters()[0] as Tensor;
  const encode = (source: LoadedSource, weight: number): Reference => {
    const found = featuresOf(source, imageEncoder, adapter.kind.feature, fit);
    const origin = typeof source === 'string' ? source : (imageEncoder?.folder as string);
    assertFeaturesFit(adapter, found.features.shape.at(-1) as number, origin);
    // Those of a file are on the CPU.
    return {
      features: found.features.to(device),
      negatives: found.negatives?.to(device) ?? null,
      weight,
    };
  };
  const file = lists
    .flat()
    .map(({ source }) => source)
    .find((source) => typeof source === 'string');
  const encodedLists = lists.map((list) => list.map(({ source, weight }) => encode(source, weight)));
  const needsNull = negative === undefined && encodedLists.flat().some(({ negatives }) => negatives === null);
  return {
    adapter: adapter.module,
    lists: encodedLists,
    listOf,
    composition: composition.map((source) => encode(source, 1)),
    nullFeatures: needsNull ? nullFeatures(adapter, imageEncoder, file, settings.nullImage).to(device) : null,
    negative: negative === undefined ? null : encode(negative, 1).features,
    masks: masks.map((mask) => mask.to(device)),
  };
}

/**
 * Returns the image prompts of one adapter as it is now: one, or one for each mask.
 * @param dtype of the tokens
 * @throws ConfigError where settings do not fit each other or the backbone
 */
export function promptsOfReferences(
  encoded: EncodedReferences,
  settings: ReferenceSettings,
  dtype: DType,
  { latents, trainedTimesteps }: Frame,
): ImagePrompt[] {
  const { adapter, lists, listOf, masks } = encoded;
  const { range = [0, 1], rangeIn = 'schedule', maskFit: fit = 'site', embedsScaling } = settings;
  /** The references of each softmax: all, or the only one of a mask. */
  const regions: { mask: Tensor | undefined; only?: number }[] =
    masks.length > 1 ? masks.map((mask, i) => ({ mask, only: i })) : [{ mask: masks[0] }];
  const prompts = regions.flatMap(({ mask, only }): ImagePrompt[] => {
    const weight = only === undefined ? 1 : sharedWeight(lists, only);
    if (weight === 0) return [];
    const chosen = lists.map((list) =>
      (only === undefined ? list : [{ ...(list[only] as Reference), weight: 1 }]).filter(
        // An image of weight 0 must not change a bit.
        (reference) => reference.weight > 0,
      ),
    );
    if (chosen.some((list) => list.length === 0)) return [];
    const scale = scaleOf(settings) * weight;
    return [
      {
        adapter,
        ...tokensOf(encoded, chosen, listOf, settings, dtype),
        scale: sitePlan(adapter.sites, scale, settings),
        scaling: embedsScaling,
        mask: mask && { values: mask.slice(0, 0), fit, latents },
        range,
        trainedTimesteps: rangeIn === 'schedule' ? trainedTimesteps : undefined,
      },
    ];
  });
  if (prompts.length === 0) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  return prompts;
}

function scaleOf({ scale, influence }: ReferenceSettings): number {
  return influence === undefined ? (scale ?? 1) : influences[influence];
}

/** With a mask for each image, its weight is a factor on the scale, which a batch shares. */
function sharedWeight(lists: readonly (readonly Reference[])[], i: number): number {
  const weights = new Set(lists.map((list) => (list[i] as Reference).weight));
  const [weight = 1] = weights;
  if (weights.size > 1)
    throw new ConfigError(
      `With several masks, the jobs of a batch must have equal weights, and those of image ${i + 1} are ${[...weights].join(', ')}; set batchSize to 1`,
    );
  return weight;
}

/** Returns tokens of all jobs, [jobs, m, contextDim] each. */
function tokensOf(
  { adapter, composition, nullFeatures: absent, negative }: EncodedReferences,
  lists: readonly (readonly Reference[])[],
  listOf: readonly number[],
  { combine = 'concat' }: ReferenceSettings,
  dtype: DType,
): Pick<ImagePrompt, 'tokens' | 'negativeTokens' | 'compositionTokens'> {
  return tidy(() => {
    const tokensFor = (references: readonly Reference[]): Tensor =>
      combineTokens(combine, projectFeatures(adapter, combineFeatures(combine, references)), references);
    const positive = lists.map(tokensFor);
    const composed = composition.length === 0 ? [] : [tokensFor(composition)];
    const negatives = lists.map((references) => {
      const rows = combine === 'concat' ? negativeRows(references, absent, negative) : null;
      const first = rows ?? negativeRows(references.slice(0, 1), absent, negative).slice(0, 0, 1);
      return projectFeatures(adapter, first).reshape(1, -1, positive[0]?.shape[2] as number);
    });
    // Tokens that are all repeated equally often do not change a softmax: so lists of several lengths fit one batch.
    const all = [...positive, ...composed, ...negatives];
    const length = all.map(({ shape }) => shape[1] as number).reduce(leastCommonMultiple);
    const alike = (tokens: Tensor): Tensor => tokens.repeat(1, length / (tokens.shape[1] as number), 1);
    const rowsOf = (ofLists: readonly Tensor[]): Tensor =>
      cat(listOf.map((list) => alike(ofLists[list] as Tensor))).to(dtype);
    return {
      tokens: rowsOf(positive),
      negativeTokens: rowsOf(negatives),
      ...(composed.length > 0 && { compositionTokens: rowsOf(lists.map(() => composed[0] as Tensor)) }),
    };
  });
}

/**
 * Returns features for the negative side, a row for each reference. There may be fewer or more negative images: the last one
 * then counts on, or the others are left out, as in ComfyUI.
 */
function negativeRows(
  references: readonly Reference[],
  absent: Tensor | null,
  negative: Tensor | null,
): Tensor {
  const repeated = (row: Tensor, count: number): Tensor =>
    row.repeat(count, ...Array<number>(row.ndim - 1).fill(1));
  const count = references.reduce((sum, { features }) => sum + (features.shape[0] as number), 0);
  if (negative !== null) {
    const [given = 0] = negative.shape;
    const last = negative.slice(0, given - 1);
    return given >= count ? negative.slice(0, 0, count) : cat([negative, repeated(last, count - given)]);
  }
  return cat(
    references.map(
      ({ features, negatives }) => negatives ?? repeated(absent as Tensor, features.shape[0] as number),
    ),
  );
}

function leastCommonMultiple(a: number, b: number): number {
  const divisor = (x: number, y: number): number => (y === 0 ? x : divisor(y, x % y));
  return (a / divisor(a, b)) * b;
}
