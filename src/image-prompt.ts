/**
 * @file Pictures as prompts: from pictures to the image encoder's features, from features to one set of image tokens,
 * and features in files, so that the encoder need not be loaded again.
 */
import type { ClipImageProcessor } from './data/clip-image-processor.js';
import type { RgbImage } from './data/image.js';
import { resizeAndCrop } from './data/resample.js';
import { CheckpointError, ConfigError } from './errors.js';
import type { IPAdapter } from './ip-adapter/ip-adapter.js';
import type { CLIPVisionModelWithProjection } from './models/clip-vision-model.js';
import { cat, noGrad, readSafetensors, type Tensor, tensor, tidy, writeSafetensors, zeros } from './torch/index.js';

/** How a picture that is not square becomes so: its middle is cut out, or the whole is squeezed. */
export const imageFits = ['crop', 'resize'] as const;

export type ImageFit = (typeof imageFits)[number];

/** An image encoder and what prepares pictures for it. */
export interface Encoder {
  model: CLIPVisionModelWithProjection;
  processor: ClipImageProcessor;
}

/** What an image encoder says of pictures: its last hidden states but one. */
export interface ImageFeatures {
  /** [n, patches + 1, hiddenSize], float32, a row for each picture */
  features: Tensor;
  /** The same of zero pixels after normalisation, [1, patches + 1, hiddenSize]; guidance starts from it. */
  zeroFeatures: Tensor;
}

/** Pictures → pixel values as the encoder takes them, [n, 3, size, size] float32 on the CPU. */
export function clipPixels(processor: ClipImageProcessor, images: readonly RgbImage[], fit: ImageFit): Tensor {
  const size = processor.cropSize;
  const values = new Float32Array(images.length * 3 * size ** 2);
  for (const [i, image] of images.entries())
    values.set(processor.pixelValues(fit === 'resize' ? squeezed(image, size) : image), i * 3 * size ** 2);
  return tensor(values, [images.length, 3, size, size]);
}

function squeezed(image: RgbImage, size: number): RgbImage {
  return resizeAndCrop(image, size, size, { left: 0, top: 0, width: size, height: size }, 'bicubic');
}

/** The features of pictures, encoded one after the other, so that memory does not grow with their number. */
export function encodeImages({ model, processor }: Encoder, images: readonly RgbImage[], fit: ImageFit): Tensor {
  return tidy(() => cat(images.map((image) => encodePixels(model, clipPixels(processor, [image], fit)))));
}

/** The features of zero pixels after normalisation: what training gave in place of a dropped picture. */
export function encodeZero({ model, processor: { cropSize } }: Encoder): Tensor {
  return encodePixels(model, zeros([1, 3, cropSize, cropSize]));
}

function encodePixels(model: CLIPVisionModelWithProjection, pixels: Tensor): Tensor {
  using _ = noGrad();
  const { device } = model.visual_projection.weight;
  return tidy(() => model.hiddenStates(pixels.to(device), -2).to('float32'));
}

/** The tokens of a prompt and those that guidance starts from, [1, numTokens, crossAttentionDim] both. */
export interface ImageTokens {
  tokens: Tensor;
  negativeTokens: Tensor;
}

/**
 * One set of tokens for all pictures of a prompt: the weighted mean of each one's. The k-th token is the answer to the
 * same learned query whatever the picture, so the mean lies between the pictures; a picture of weight 0 counts not at
 * all, one given twice counts double, and the cost does not grow. (diffusers and ComfyUI by default append the tokens
 * one after another instead, which leaves no place for weights; ComfyUI calls this one 'average'.)
 * @param weights one for each row of features, 0 or more
 * @throws ConfigError where all weights are 0
 */
export function imageTokens(
  adapter: IPAdapter,
  { features, zeroFeatures }: ImageFeatures,
  weights: readonly number[],
): ImageTokens {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0)) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  using _ = noGrad();
  const { dtype, device } = adapter.image_proj.latents;
  const project = (rows: Tensor): Tensor => adapter.call(rows.to({ dtype, device })).to('float32');
  return tidy(() => {
    const shares = tensor(weights, [weights.length, 1, 1]).mul(1 / total);
    return {
      tokens: project(features).mul(shares.to(device)).sum([0], true),
      negativeTokens: project(zeroFeatures),
    };
  });
}

const fileKeys = { features: 'image_features', zeroFeatures: 'zero_image_features' } as const;

/** Writes features as safetensors: `image_features`, `zero_image_features`. */
export function writeImageFeatures(file: string, { features, zeroFeatures }: ImageFeatures): void {
  const tensors = [
    [fileKeys.features, features],
    [fileKeys.zeroFeatures, zeroFeatures],
  ] as const;
  writeSafetensors(file, new Map(tensors), { format: 'pt', content: 'hidden_states[-2] of a CLIP image encoder' });
}

/** @throws CheckpointError where the file is not of `writeImageFeatures` */
export function readImageFeatures(file: string): ImageFeatures {
  const { tensors } = readSafetensors(file);
  const of = (key: string): Tensor => {
    const found = tensors.get(key);
    if (found?.ndim === 3) return found;
    throw new CheckpointError(
      `Expected ${key} in ${file} but its keys are ${[...tensors.keys()].slice(0, 4).join(', ')}; make such a file with ip-adapter embed.`,
    );
  };
  return { features: of(fileKeys.features), zeroFeatures: of(fileKeys.zeroFeatures) };
}
