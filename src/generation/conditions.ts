/**
 * @file From prompts to what the denoising loop takes: conditioning, and image tokens for each image. Two stages, since an
 * adapter that is being trained needs only the second one again.
 */

import { ConfigError } from '../base/errors.js';
import type { Size } from '../base/rgb-image.js';
import type { Conditioning, ImageSizes } from '../diffusion/conditioning.js';
import type { ImageFit, ResolvedJob } from '../options/generate-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { cat, mapTensors, releasePages, tensor, tensorsOf, tidy, zeros, zipTensors } from '../torch/index.js';
import type { Prompts } from './denoise.js';
import type { PipelineModels } from './pipeline-models.js';
import {
  type EncodedReferences,
  encodeReferences,
  type Frame,
  type LoadedReferences,
  loadReferences,
  promptsOfReferences,
} from './references.js';

/** What encoders make of the prompts of n jobs. */
export interface EncodedPrompts {
  /** A row for each job, both. */
  positive: Conditioning;
  negative: Conditioning;
  /** For each adapter; null where no job has an image for it. */
  images: readonly (EncodedReferences | null)[];
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

/**
 * Returns the prompts of a batch of images, to be given to `releaseTensors` after use.
 * @param references settings for each adapter
 * @throws as `encodePrompts`, and ConfigError where settings of references do not fit each other or the model
 */
export async function makePrompts(
  models: PromptModels & Pick<PipelineModels, 'latents' | 'scheduler'>,
  jobs: readonly ResolvedJob[],
  settings: PromptSettings,
  references: readonly ReferenceSettings[],
): Promise<Prompts> {
  const encoded = await encodePrompts(models, jobs, settings, references);
  try {
    return promptsOf(encoded, references, frameOf(models, settings));
  } catch (error) {
    releaseTensors([encoded.positive, encoded.negative]);
    throw error;
  } finally {
    releaseTensors(encoded.images);
  }
}

/** Returns what image prompts need to know of the images to come. */
export function frameOf(
  { latents: { downsample }, scheduler }: Pick<PipelineModels, 'latents' | 'scheduler'>,
  { width, height }: Size,
): Frame {
  return {
    latents: [height / downsample, width / downsample],
    trainedTimesteps: scheduler.config.num_train_timesteps,
  };
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
  references: readonly ReferenceSettings[] = [],
): Promise<EncodedPrompts> {
  const loaded = await Promise.all(
    models.adapters.map((_, i) => loadReferences(jobs, i, references[i] ?? {})),
  );
  using _ = { [Symbol.dispose]: () => releaseTensors(loaded.map(({ masks }) => masks)) };
  const encoded = tidy((): EncodedPrompts => {
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
      images: models.adapters.map((adapter, i) =>
        encodeReferences(adapter, loaded[i] as LoadedReferences, fit),
      ),
    };
  });
  // Encoders, backbone and VAE are in memory in turn.
  releasePages(models.textEncoder, ...models.adapters.flatMap(({ imageEncoder }) => imageEncoder ?? []));
  return encoded;
}

/**
 * Does the rest, with the adapters as they are now. The conditioning is shared with the encoded prompts, image tokens are
 * new.
 * @param references settings for each adapter
 */
export function promptsOf(
  { positive, negative, images }: EncodedPrompts,
  references: readonly ReferenceSettings[],
  frame: Frame,
): Prompts {
  const { dtype } = positive.text;
  const prompts = tidy(() =>
    images.flatMap((encoded, i) =>
      encoded === null ? [] : promptsOfReferences(encoded, references[i] ?? {}, dtype, frame),
    ),
  );
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

/**
 * The conditioning of each text, a row each. Each is encoded alone, and equal ones once: sums of another size are rounded
 * differently, and an image should not depend on the texts of others.
 */
function encodeTexts(
  { textEncoder, tokenizer, device }: PromptModels,
  texts: readonly string[],
  clipSkip: number,
): Conditioning {
  return tidy(() => {
    const encoded = new Map(
      Array.from(new Set(texts), (text) => {
        const inputIds = tensor(tokenizer.encode(text), [1, ...tokenizer.shape], 'int64').to(device);
        return [text, textEncoder.condition(inputIds, clipSkip)];
      }),
    );
    const rows = texts.map((text) => encoded.get(text) as Conditioning);
    return zipTensors(rows as [Conditioning, ...Conditioning[]], (states) => cat(states));
  });
}
