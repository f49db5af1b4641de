/** @file The interface of image encoders: CLIP, SigLIP, DINOv2 and DINO. */
import { UserError } from '../base/errors.js';
import { resolveModelPath } from '../hub/cache.js';
import { ImageProcessor } from '../images/image-processor.js';
import { type Device, noGrad, type Tensor, tidy } from '../torch/index.js';
import { loadImageEncoder, readImageEncoder } from '../weights/image-encoders.js';
import type { LoadOptions } from '../weights/load.js';
import { openNamed } from '../weights/near-folder.js';
import type { ImageFeature } from './kind.js';

export type { ImageProcessor };

/** An image encoder of which only the small files have been read. The weights are read by `load`. */
export interface ImageEncoderSource {
  folder: string;
  /** Of the model: clip, siglip, dinov2, dinov2_with_registers or vit, whether the folder holds a text encoder or not. */
  type: string;
  /** Turns images into the pixel values that the encoder takes. */
  preprocess: ImageProcessor;
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
 * Opens an image encoder in the transformers layout.
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
    readImageEncoder(folder);
    return true;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
}

function open(nameOrPath: string): ImageEncoderSource {
  const folder = resolveModelPath(nameOrPath);
  const { type, imageSize, processor, create } = readImageEncoder(folder);
  const preprocess = ImageProcessor.load(folder, imageSize, processor);
  using model = create(preprocess.cropSize);
  const widths = { tokens: model.config.hiddenSize, pooled: model.pooledDim };
  const opened = { folder, type: type.replace(/_vision_model$/, ''), preprocess, widths };
  return {
    ...opened,
    load: (options) => {
      const model = loadImageEncoder(folder, options, preprocess.cropSize);
      return {
        ...opened,
        device: options.device,
        encode: (pixels, feature) => {
          using _ = noGrad();
          return tidy(() => (feature === 'pooled' ? model.call(pixels) : model.hiddenStates(pixels, -2)));
        },
        parameters: () => model.parameters(),
        [Symbol.dispose]: () => model[Symbol.dispose](),
      };
    },
  };
}
