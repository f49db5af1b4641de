/**
 * @file The Stable Diffusion XL family (Podell et al., arXiv 2307.01952; diffusers StableDiffusionXLPipeline). The UNet
 * reads the penultimate hidden states of two text encoders, the embedding of the second one, and the sizes of the image.
 */
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import type { CLIPTextModelWithProjection } from '../models/clip/clip-text-model-with-projection.js';
import { ClipTokenizerPair } from '../models/clip/clip-tokenizer-pair.js';
import { cat, type Device, noGrad, tensor, tidy } from '../torch/index.js';
import type { ImageSizes } from './conditioning.js';
import type { DiffusionModel, SizeConditioning, TextEncoder } from './model.js';
import type { ModelParts } from './model-parts.js';
import { stateBefore } from './stable-diffusion.js';
import { loadUNetBackbone, openCommonParts } from './unet-model.js';

export function stableDiffusionXL(parts: ModelParts): DiffusionModel {
  return {
    ...openCommonParts(parts),
    family: 'Stable Diffusion XL',
    tokenizer: () => new ClipTokenizerPair(parts.tokenizer('tokenizer'), parts.tokenizer('tokenizer_2')),
    textEncoderPaths: [parts.pathOf('text_encoder'), parts.pathOf('text_encoder_2')],
    absentNegative: parts.forcesZeros() ? 'zeros' : 'empty text',
    sizeConditioning,
    loadBackbone: (options) => loadUNetBackbone(parts, options),
    loadTextEncoder: (options) =>
      textEncoders(parts.loadTextEncoder(options), parts.loadSecondTextEncoder(options)),
    // The activations of the published VAE overflow in float16 (`force_upcast` in its config).
    loadVAE: (options) =>
      parts.loadVAE(options.dtype === 'float16' ? { ...options, dtype: 'float32' } : options),
  };
}

function textEncoders(first: CLIPTextModel, second: CLIPTextModelWithProjection): TextEncoder {
  return {
    condition: (inputIds, clipSkip) => {
      using _ = noGrad();
      return tidy(() => {
        const [firstIds, secondIds] = [inputIds.select(1, 0), inputIds.select(1, 1)];
        const { textEmbeds, hiddenStates } = second.encode(secondIds);
        const states = [first.call(firstIds).hiddenStates, hiddenStates];
        const text = cat(
          states.map((all) => stateBefore(all, 1 + clipSkip)),
          -1,
        );
        return { text, pooled: textEmbeds };
      });
    },
    parameters: () => [...first.parameters(), ...second.parameters()],
    [Symbol.dispose]: () => {
      for (const model of [first, second]) model[Symbol.dispose]();
    },
  };
}

function sizeConditioning(sizes: readonly ImageSizes[], device: Device): SizeConditioning {
  const ids = sizes.flatMap(({ original, crop, target }) => [
    ...[original.height, original.width],
    ...[crop.top, crop.left],
    ...[target.height, target.width],
  ]);
  return { timeIds: tidy(() => tensor(ids, [sizes.length, 6]).to(device)) };
}
