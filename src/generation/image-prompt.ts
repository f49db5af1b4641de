/** @file Reference images as prompts: from images to the image encoder's features, from features to image tokens. */

import type { ImageEncoder, ImageProcessor } from '../adapters/image-encoder.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { ImageFeature } from '../adapters/kind.js';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { resizeAndCrop } from '../images/resample.js';
import type { ImageFit } from '../options/generate-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { noGrad, type Tensor, tidy, zeros } from '../torch/index.js';
import {
  type FileFeatures,
  type ImageFeatures,
  isFeaturesFile,
  readFeatures,
  readImageFeatures,
} from './embedding-files.js';

/** An image file, a file of features, or an image in memory. */
export type ImageSource = string | RgbImage;

/** Returns pixel values as the encoder takes them, [n, 3, size, size] float32 on the CPU. */
export function clipPixels(processor: ImageProcessor, images: readonly RgbImage[], fit: ImageFit): Tensor {
  return processor.pixelValues(images.map((image) => fitted(image, processor.cropSize, fit))).toTensor();
}

/** Returns the part of an image that the processor is to see, which keeps the middle of what is not square. */
function fitted(image: RgbImage, size: number, fit: ImageFit): RgbImage {
  const { width, height } = image;
  if (fit === 'crop' || width === height) return image;
  if (fit === 'resize') {
    const whole = { width: size, height: size };
    return resizeAndCrop(image, { ...whole, crop: { left: 0, top: 0, ...whole }, filter: 'bicubic' });
  }
  const edge = Math.min(width, height);
  if (fit === 'pad') {
    const side = Math.max(width, height);
    return window(image, Math.floor((width - side) / 2), Math.floor((height - side) / 2), side);
  }
  const middle = { left: Math.floor((width - edge) / 2), top: Math.floor((height - edge) / 2) };
  const place = {
    'crop-top': { ...middle, top: 0 },
    'crop-bottom': { ...middle, top: height - edge },
    'crop-left': { ...middle, left: 0 },
    'crop-right': { ...middle, left: width - edge },
  }[fit];
  return window(image, place.left, place.top, edge);
}

/** Returns a square of an image; what is outside of the image is black. */
function window({ data, width, height }: RgbImage, left: number, top: number, side: number): RgbImage {
  const square = new Uint8Array(side * side * 3);
  const [first, end] = [Math.max(left, 0), Math.min(left + side, width)];
  for (let y = Math.max(top, 0); y < Math.min(top + side, height); y++)
    square.set(
      data.subarray((y * width + first) * 3, (y * width + end) * 3),
      ((y - top) * side + first - left) * 3,
    );
  return { data: square, width: side, height: side };
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
): FileFeatures {
  if (typeof source === 'string') return readFeatures(source, feature);
  if (encoder === undefined)
    throw new ConfigError(
      'Expected an image encoder for reference images: give --image-encoder (imageEncoder), or embeddings made by ip-adapter embed',
    );
  const features = tidy(() => encodePixels(encoder, clipPixels(encoder.preprocess, [source], fit), feature));
  return { features, negatives: null };
}

/**
 * Returns the features that stand for no image, one row: guidance starts from them, and training used them for dropped
 * images.
 * @param file of features, which has them too where there is no encoder
 * @param nullImage 'black' is an image that is black before normalisation, as ComfyUI_IPAdapter_plus takes it for hidden states
 */
export function nullFeatures(
  { kind, module }: Pick<OpenedAdapter, 'kind' | 'module'>,
  encoder: ImageEncoder | undefined,
  file: string | undefined,
  nullImage: ReferenceSettings['nullImage'] = 'trained',
): Tensor {
  if (kind.nullImage === 'zero-feature') return zeros([1, module.image_proj.embeddingDim]);
  if (nullImage === 'black') {
    const side = encoder?.preprocess.cropSize ?? 1;
    const black = { data: new Uint8Array(side * side * 3), width: side, height: side };
    return featuresOf(black, encoder, kind.feature, 'crop').features;
  }
  if (encoder !== undefined) return zeroPixelFeatures(encoder);
  if (file?.endsWith('.safetensors')) return readImageFeatures(file).zeroHiddenStates;
  throw new ConfigError(
    `Expected an image encoder for what stands for no image${file === undefined ? '' : `, which ${file} does not have`}: give --image-encoder (imageEncoder)`,
  );
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
