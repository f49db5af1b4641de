import { describe, expect, it } from 'vitest';
import { expectAllclose, modelCases, recorded, target } from '../../../test/golden.js';
import { ConfigError } from '../../base/errors.js';
import { noGrad, zeros } from '../../torch/index.js';
import { loadTextEncoder } from '../../weights/load.js';
import { CLIPTextModel, parseCLIPTextConfig } from './clip-text-model.js';

const sd15 = {
  _name_or_path: 'openai/clip-vit-large-patch14',
  architectures: ['CLIPTextModel'],
  attention_dropout: 0,
  bos_token_id: 0,
  dropout: 0,
  eos_token_id: 2,
  hidden_act: 'quick_gelu',
  hidden_size: 768,
  initializer_factor: 1,
  initializer_range: 0.02,
  intermediate_size: 3072,
  layer_norm_eps: 1e-5,
  max_position_embeddings: 77,
  model_type: 'clip_text_model',
  num_attention_heads: 12,
  num_hidden_layers: 12,
  pad_token_id: 1,
  torch_dtype: 'float32',
  transformers_version: '4.22.0.dev0',
  vocab_size: 49408,
};
const build = (json: object) => new CLIPTextModel(parseCLIPTextConfig(json, 'config.json'));

describe('CLIPTextModel, as the original computes it', () => {
  const cases = modelCases('text_encoder');
  it('has recorded cases, with an old and a new config of the end-of-text token', () => {
    expect(cases.map(({ folder }) => loadTextEncoder(folder).config.eosTokenId)).toEqual(
      expect.arrayContaining([2, 999]),
    );
  });

  it.each(cases)('$name', (one) => {
    using _ = noGrad();
    const model = loadTextEncoder(one.folder, target);
    for (const prefix of ['', 'short_']) {
      const { lastHiddenState, poolerOutput } = model.call(recorded(one, `${prefix}input_ids`));
      expectAllclose(lastHiddenState, recorded(one, `${prefix}last_hidden_state`), 5e-6);
      expectAllclose(poolerOutput, recorded(one, `${prefix}pooler_output`), 5e-6);
    }
  });
});

describe('CLIPTextModel', () => {
  it('has as many parameters as the published SD 1.5', () => {
    const parameters = build(sd15).parameters();
    expect(parameters.reduce((sum, { numel }) => sum + numel, 0)).toBe(123_060_480);
  });

  it('refuses more tokens than it has positions', () => {
    const [one] = modelCases('text_encoder') as [ReturnType<typeof modelCases>[number]];
    const model = loadTextEncoder(one.folder, target);
    expect(() => model.call(zeros([1, 78], { dtype: 'int64' }))).toThrow(
      'Expected at most 77 tokens for inputIds but received 78',
    );
  });

  it.each([
    [
      { hidden_act: 'relu' },
      /"quick_gelu" or "gelu" or "gelu_pytorch_tanh" for hidden_act in config.json but received "relu"/,
    ],
    [{ num_attention_heads: 7 }, /num_attention_heads/],
    [{ rope_theta: 1e4 }, /rope_theta/],
  ])('refuses %j', (change, message) => {
    expect(() => build({ ...sd15, ...change })).toThrow(ConfigError);
    expect(() => build({ ...sd15, ...change })).toThrow(message);
  });
});
