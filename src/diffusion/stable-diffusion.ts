/** @file The Stable Diffusion 1.x and 2.x family: one text encoder, whose last hidden state the UNet reads. */
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import { noGrad } from '../torch/index.js';
import type { DiffusionModel, TextEncoder } from './model.js';
import type { ModelParts } from './model-parts.js';
import { loadUNetBackbone, openCommonParts } from './unet-model.js';

export function stableDiffusion(parts: ModelParts): DiffusionModel {
  return {
    ...openCommonParts(parts),
    family: 'Stable Diffusion',
    tokenizer: () => parts.tokenizer(),
    textEncoderPaths: [parts.pathOf('text_encoder')],
    absentNegative: 'empty text',
    sizeConditioning: null,
    loadBackbone: (options) => loadUNetBackbone(parts, options),
    loadTextEncoder: (options) => textEncoder(parts.loadTextEncoder(options)),
    loadVAE: parts.loadVAE,
  };
}

function textEncoder(model: CLIPTextModel): TextEncoder {
  return {
    condition: (inputIds) => {
      using _ = noGrad();
      return { text: model.call(inputIds).lastHiddenState };
    },
    parameters: () => model.parameters(),
    [Symbol.dispose]: () => model[Symbol.dispose](),
  };
}
