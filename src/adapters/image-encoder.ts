/** @file Image encoders as adapters see them: images in, features out. Today all are CLIP's vision models. */
import { UserError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import { type Device, noGrad, type Tensor, tidy } from '../torch/index.js';
import { type LoadOptions, loadImageEncoder, readImageEncoderConfig } from '../weights/load.js';
import { openNamed } from '../weights/near-folder.js';
import type { ImageFeature } from './kind.js';

/** An image encoder of which only the small files have been read. */
export interface ImageEncoderSource {
  folder: string;
  /** Images → pixel values as the encoder takes them. */
  preprocess: ClipImageProcessor;
  /** The width of each feature. */
  widths: Readonly<Record<ImageFeature, number>>;
  /** @throws CheckpointError where the weights are missing or incomplete */
  load(options: LoadOptions & { device: Device }): ImageEncoder;
}

export interface ImageEncoder extends Omit<ImageEncoderSource, 'load'>, Disposable {
  device: Device;
  /**
   * Returns a feature of images, in the encoder's dtype: 'tokens' [n, patches + 1, widths.tokens], 'pooled'
   * [n, widths.pooled].
   * @param pixels [n, 3, size, size], on the encoder's device
   */
  encode(pixels: Tensor, feature: ImageFeature): Tensor;
  parameters(): Tensor[];
}

/**
 * Opens CLIP's vision model in the layout of transformers.
 * @param nameOrPath a folder, or a name in the Hub's cache
 * @param option that named it, for errors
 * @throws ConfigError, CheckpointError where it is none
 */
export function openImageEncoder(
  nameOrPath: string,
  option = '--image-encoder (imageEncoder)',
): ImageEncoderSource {
  return openNamed(option, nameOrPath, isImageEncoder, () => open(nameOrPath));
}

function isImageEncoder(folder: string): boolean {
  try {
    readImageEncoderConfig(folder);
    return true;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
}

function open(nameOrPath: string): ImageEncoderSource {
  const folder = resolveModelPath(nameOrPath);
  const { imageSize, hiddenSize, projectionDim } = readImageEncoderConfig(folder);
  const opened = {
    folder,
    preprocess: ClipImageProcessor.load(folder, imageSize),
    widths: { tokens: hiddenSize, pooled: projectionDim },
  };
  return {
    ...opened,
    load: (options) => {
      const model = loadImageEncoder(folder, options);
      return {
        ...opened,
        device: options.device,
        encode: (pixels, feature) => {
          using _ = noGrad();
          return tidy(() => (feature === 'pooled' ? model.call(pixels) : model.hiddenStates(pixels, -2)));
        },
        parameters: () => model.parameters(),
        [Symbol.dispose]: () => {
          for (const parameter of model.parameters()) parameter.dispose();
        },
      };
    },
  };
}
