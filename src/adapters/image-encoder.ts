/** @file The interface of image encoders. All of them are CLIP vision models today. */
import { UserError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import { type Device, noGrad, type Tensor, tidy } from '../torch/index.js';
import { type LoadOptions, loadImageEncoder, readImageEncoderConfig } from '../weights/load.js';
import { openNamed } from '../weights/near-folder.js';
import type { ImageFeature } from './kind.js';

export type { ClipImageProcessor };

/** An image encoder of which only the small files have been read. The weights are read by `load`. */
export interface ImageEncoderSource {
  folder: string;
  /** Turns images into the pixel values that the encoder takes. */
  preprocess: ClipImageProcessor;
  /** The width of each output. */
  widths: Readonly<Record<ImageFeature, number>>;
  /** @throws CheckpointError where the weights are missing or incomplete */
  load(options: LoadOptions & { device: Device }): ImageEncoder;
}

export interface ImageEncoder extends Omit<ImageEncoderSource, 'load'>, Disposable {
  device: Device;
  /**
   * Returns one output for images, in the encoder's dtype: 'tokens' are the penultimate hidden states
   * [n, patches + 1, widths.tokens], 'pooled' the projected embeddings [n, widths.pooled].
   * @param pixels [n, 3, size, size], on the encoder's device
   */
  encode(pixels: Tensor, feature: ImageFeature): Tensor;
  parameters(): Tensor[];
}

/**
 * Opens a CLIP vision model in the transformers layout.
 * @param nameOrPath a folder, or a name in the Hub's cache
 * @param option that named it, for errors
 * @throws ConfigError, CheckpointError where it is not such a model
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
