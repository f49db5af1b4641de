/** @file The Stable Diffusion 1.x and 2.x family: one text encoder, whose last hidden state the UNet reads. */
import { ConfigError } from '../base/errors.js';
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import { noGrad, type Tensor, tidy } from '../torch/index.js';
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
    condition: (inputIds, clipSkip) => {
      using _ = noGrad();
      return tidy(() => {
        const { lastHiddenState, hiddenStates } = model.call(inputIds);
        if (clipSkip === 0) return { text: lastHiddenState };
        return { text: model.text_model.final_layer_norm.call(stateBefore(hiddenStates, clipSkip)) };
      });
    },
    parameters: () => model.parameters(),
    [Symbol.dispose]: () => model[Symbol.dispose](),
  };
}

/**
 * The state before the last `count` layers.
 * @throws ConfigError where there are not so many
 */
export function stateBefore(hiddenStates: readonly Tensor[], count: number): Tensor {
  const state = hiddenStates.at(-1 - count);
  if (state !== undefined) return state;
  throw new ConfigError(
    `--clip-skip (clipSkip) leaves no layer of the text encoder's ${hiddenStates.length - 1}; give a smaller one`,
  );
}
