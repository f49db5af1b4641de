/** @file Models that transformers 5 saved give transformers' own outputs here. Made by tools/golden/transformers_clip.py. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { noGrad, type Tensor } from '../torch/index.js';
import { loadImageEncoder } from './image-encoders.js';
import { loadTextEncoder, loadTextEncoderWithProjection } from './load.js';

const folder = golden('transformers5') as string;
const inputs = readGolden(join(folder, 'inputs.safetensors'));
const [ids, pixels] = ['input_ids', 'pixel_values'].map((name) => inputs.get(name)) as [Tensor, Tensor];
const recorded = (name: string) => readGolden(join(folder, `${name}.io.safetensors`));
const toFloat32 = { dtype: 'float32', ...target } as const;
const rounding = 1e-5;

function expectOutputs(name: string, outputs: Record<string, Tensor>): void {
  const expected = recorded(name);
  for (const [key, output] of Object.entries(outputs))
    expectAllclose(output, expected.get(key) as Tensor, rounding);
}

describe('models of transformers 5', () => {
  it.each(['text', 'text_shards', 'text_bfloat16'])('%s: CLIPTextModel', (name) => {
    using _ = noGrad();
    const model = loadTextEncoder(join(folder, name), toFloat32);
    const { lastHiddenState, poolerOutput } = model.call(ids);
    expectOutputs(name, { lastHiddenState, poolerOutput });
    expect(loadTextEncoderWithProjection(join(folder, name))).toBeNull();
  });

  it.each(['text_with_projection', 'whole'])('%s: CLIPTextModelWithProjection', (name) => {
    using _ = noGrad();
    const plain = loadTextEncoder(join(folder, name), toFloat32);
    const projecting = loadTextEncoderWithProjection(join(folder, name), toFloat32);
    const { lastHiddenState } = plain.call(ids);
    expectOutputs(name, { lastHiddenState, embeds: projecting?.embed(ids) as Tensor });
  });

  it.each(['vision_with_projection', 'whole'])('%s: CLIPVisionModelWithProjection', (name) => {
    using _ = noGrad();
    const model = loadImageEncoder(join(folder, name), toFloat32);
    expectOutputs(name, { hidden: model.hiddenStates(pixels, -2), imageEmbeds: model.call(pixels) });
  });
});
