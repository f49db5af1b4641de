/**
 * @file Reference images as prompts: from images to the image encoder's features, from features to one set of image
 * tokens, and features in files, which replace the encoder.
 */

import type { ClipImageProcessor, ImageEncoder } from '../adapters/image-encoder.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { ImageFeature } from '../adapters/kind.js';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { resizeAndCrop } from '../images/resample.js';
import type { ImageFit } from '../options/generate-options.js';
import { noGrad, type Tensor, tensor, tidy, zeros } from '../torch/index.js';

/** An image file, a `.safetensors` file of features, or an image in memory. */
export type ImageSource = string | RgbImage;

/** The features of n images, float32: all that adapters may read. */
export interface ImageFeatures {
  /** The last hidden states but one, [n, patches + 1, hiddenSize]. */
  hiddenStates: Tensor;
  /** The same of zero pixels after normalisation, [1, patches + 1, hiddenSize]. */
  zeroHiddenStates: Tensor;
  /** The embeddings, [n, projectionDim]. */
  embeddings: Tensor;
}

/** Returns pixel values as the encoder takes them, [n, 3, size, size] float32 on the CPU. */
export function clipPixels(
  processor: ClipImageProcessor,
  images: readonly RgbImage[],
  fit: ImageFit,
): Tensor {
  const size = processor.cropSize;
  const values = new Float32Array(images.length * 3 * size ** 2);
  for (const [i, image] of images.entries())
    values.set(processor.pixelValues(fit === 'resize' ? squeezed(image, size) : image), i * 3 * size ** 2);
  return tensor(values, [images.length, 3, size, size]);
}

function squeezed(image: RgbImage, size: number): RgbImage {
  const whole = { width: size, height: size };
  return resizeAndCrop(image, { ...whole, crop: { left: 0, top: 0, ...whole }, filter: 'bicubic' });
}

/** A source in memory: an image, or the name of a file of features, which is mapped later and not read. */
export type LoadedSource = RgbImage | string;

/** Reads an image file. @throws ImageError where it cannot be read */
export async function loadSource(source: ImageSource): Promise<LoadedSource> {
  return typeof source === 'string' && !isFeaturesFile(source) ? readImage(fileSource(source)) : source;
}

/**
 * Returns the features of a source, a row for each image; a file of features may hold several.
 * @param encoder not needed for a file of features
 * @throws ConfigError where it is needed; CheckpointError where the file cannot be read
 */
export function featuresOf(
  source: LoadedSource,
  encoder: ImageEncoder | undefined,
  feature: ImageFeature,
  fit: ImageFit,
): Tensor {
  if (typeof source === 'string') {
    const { hiddenStates, embeddings } = readImageFeatures(source);
    return feature === 'pooled' ? embeddings : hiddenStates;
  }
  if (encoder === undefined)
    throw new ConfigError(
      'Expected an image encoder for reference images: give --image-encoder (imageEncoder), or embeddings made by ip-adapter embed',
    );
  return tidy(() => encodePixels(encoder, clipPixels(encoder.preprocess, [source], fit), feature));
}

/**
 * Returns the features that stand for no image, one row: guidance starts from them, and training used them for dropped
 * images.
 * @param file of features, which has them too where there is no encoder
 */
export function nullFeatures(
  { kind, module }: Pick<OpenedAdapter, 'kind' | 'module'>,
  encoder: ImageEncoder | undefined,
  file: string | undefined,
): Tensor {
  if (kind.nullImage === 'zero-feature') return zeros([1, module.image_proj.embeddingDim]);
  if (encoder === undefined) return readImageFeatures(file as string).zeroHiddenStates;
  return zeroPixelFeatures(encoder);
}

/** Returns the 'tokens' of pixels that are zero after normalisation, float32 [1, n, width]. */
export function zeroPixelFeatures(encoder: ImageEncoder): Tensor {
  const { cropSize } = encoder.preprocess;
  return tidy(() => encodePixels(encoder, zeros([1, 3, cropSize, cropSize]), 'tokens'));
}

function encodePixels(encoder: ImageEncoder, pixels: Tensor, feature: ImageFeature): Tensor {
  return tidy(() => encoder.encode(pixels.to(encoder.device), feature).to('float32'));
}

/** Returns every feature of an image in memory, a row each. */
export function everyFeature(
  encoder: ImageEncoder,
  image: RgbImage,
  fit: ImageFit,
): Omit<ImageFeatures, 'zeroHiddenStates'> {
  return tidy(() => {
    const pixels = clipPixels(encoder.preprocess, [image], fit);
    const encode = (feature: ImageFeature): Tensor => encodePixels(encoder, pixels, feature).to('cpu');
    return { hiddenStates: encode('tokens'), embeddings: encode('pooled') };
  });
}

/** Returns the image tokens of features, a row for each image: [n, numTokens, crossAttentionDim], float32. */
export function projectFeatures(adapter: IPAdapter, features: Tensor): Tensor {
  using _ = noGrad();
  const { dtype, device } = adapter.parameters()[0] as Tensor;
  return tidy(() => adapter.call(features.to({ dtype, device })).to('float32'));
}

/**
 * Returns one set of tokens for all images of a prompt: the weighted mean of theirs. The k-th token comes from the same
 * learned weights for every image, so the mean lies between the images; one that is given twice counts double, and the
 * cost does not grow. (diffusers and ComfyUI by default append the tokens one after another instead, where weights have
 * no clear meaning; ComfyUI calls this method 'average'.)
 * @param tokens [n, numTokens, crossAttentionDim]
 * @param weights one for each row, above 0
 * @returns [1, numTokens, crossAttentionDim]
 */
export function weightedMean(tokens: Tensor, weights: readonly number[]): Tensor {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return tidy(() => {
    const shares = tensor(
      weights.map((weight) => weight / total),
      [weights.length, 1, 1],
    );
    return tokens.mul(shares.to(tokens.device)).sum([0], true);
  });
}

/** Returns whether a source is a file of features, by its name. */
export function isFeaturesFile(source: ImageSource): boolean {
  return typeof source === 'string' && source.endsWith('.safetensors');
}

const fileKeys = {
  hiddenStates: 'hidden_states',
  zeroHiddenStates: 'zero_hidden_states',
  embeddings: 'image_embeds',
} as const;

/** Writes features as safetensors: `hidden_states`, `zero_hidden_states`, `image_embeds`. */
export function writeImageFeatures(file: string, features: ImageFeatures): void {
  const keys = Object.keys(fileKeys) as (keyof ImageFeatures)[];
  writeSafetensors(file, new Map(keys.map((key) => [fileKeys[key], features[key]])), { format: 'pt' });
}

/** Maps a file of `writeImageFeatures`. @throws CheckpointError where it is another file */
function readImageFeatures(file: string): ImageFeatures {
  const { tensors } = readSafetensors(file);
  const of = (key: string): Tensor => {
    const found = tensors.get(key);
    if (found !== undefined) return found;
    throw new CheckpointError(
      `Expected ${key} in ${file} but its keys are ${[...tensors.keys()].slice(0, 4).join(', ')}; make such a file with ip-adapter embed.`,
    );
  };
  return {
    hiddenStates: of(fileKeys.hiddenStates),
    zeroHiddenStates: of(fileKeys.zeroHiddenStates),
    embeddings: of(fileKeys.embeddings),
  };
}
