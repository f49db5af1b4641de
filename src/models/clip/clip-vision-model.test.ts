import { describe, expect, it } from 'vitest';
import { expectAllclose, modelCases, recorded, target } from '../../../test/golden.js';
import { vitH } from '../../../test/published-image-encoder.js';
import { noGrad, zeros } from '../../torch/index.js';
import { loadImageEncoder } from '../../weights/image-encoders.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from './clip-vision-model.js';

describe('CLIPVisionModelWithProjection, as the original computes it', () => {
  const cases = modelCases('image_encoder');
  it('has recorded cases', () => expect(cases.length).toBeGreaterThan(0));

  it.each(cases)('$name', (one) => {
    using _ = noGrad();
    const model = loadImageEncoder(one.folder, target);
    const pixels = recorded(one, 'pixel_values');
    const zero = zeros([1, ...pixels.shape.slice(1)], target);
    const last = model.hiddenStates(pixels, -1);
    const outputs = {
      'hidden_states.0': model.hiddenStates(pixels, 0),
      'hidden_states.-2': model.hiddenStates(pixels, -2),
      last_hidden_state: last,
      image_embeds: model.pool(last),
      'zero.hidden_states.-2': model.hiddenStates(zero, -2),
      'zero.image_embeds': model.call(zero),
    };
    for (const [key, output] of Object.entries(outputs)) expectAllclose(output, recorded(one, key), 5e-6);
  });
});

describe('CLIPVisionModelWithProjection', () => {
  it('has as many parameters as the published ViT-H', () => {
    const model = new CLIPVisionModelWithProjection(parseCLIPVisionConfig(vitH, 'config.json'));
    expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(632_076_800);
  });

  const [one] = modelCases('image_encoder') as [ReturnType<typeof modelCases>[number]];

  it('does not run later layers', () => {
    const model = loadImageEncoder(one.folder, target);
    const pixels = recorded(one, 'pixel_values');
    const last = (model as CLIPVisionModelWithProjection).vision_model.encoder.layers.at(-1);
    for (const parameter of last?.parameters() ?? []) parameter.dispose();
    expect(() => model.hiddenStates(pixels, -1)).toThrow();
    expectAllclose(model.hiddenStates(pixels, -2), recorded(one, 'hidden_states.-2'), 5e-6);
  });

  it('refuses images of another size, and layers that do not exist', () => {
    const model = loadImageEncoder(one.folder, target);
    expect(() => model.call(zeros([1, 3, 56, 57]))).toThrow(
      'Expected 56 × 56 pixels for pixelValues but received 56 × 57',
    );
    for (const index of [4, -5, 0.5])
      expect(() => model.hiddenStates(zeros([1, 3, 56, 56]), index)).toThrow(/from -4 to 3 for index/);
  });
});
