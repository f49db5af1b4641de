/** Text states without the text encoder's last layers, as diffusers' `clip_skip` (tools/golden/clip_skip.py). */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { ConfigError } from '../base/errors.js';
import { type Tensor, tensor } from '../torch/index.js';
import { openDiffusionModel } from './open-model.js';

const recorded = readGolden(golden('clip_skip.safetensors') as string);
const of = (key: string): Tensor => recorded.get(key) as Tensor;
const demo = join(import.meta.dirname, '../../demo/models');
const sdxl = golden('sdxl_base_models');

it('SD: the state before the layers that are skipped, normalised', () => {
  using encoder = openDiffusionModel(demo).loadTextEncoder({ ...target, dtype: 'float32' });
  expectAllclose(encoder.condition(of('sd.input_ids'), 1).text, of('sd.text'), 1e-5);
});

it('refuses to skip more layers than there are', () => {
  using encoder = openDiffusionModel(demo).loadTextEncoder({ ...target, dtype: 'float32' });
  const layers = 3;
  encoder.condition(of('sd.input_ids'), layers);
  expect(() => encoder.condition(of('sd.input_ids'), layers + 1)).toThrow(ConfigError);
});

it.skipIf(sdxl === null)(
  'SDXL: one layer earlier in both encoders, the pooled embedding as ever (../shared/golden)',
  () => {
    const model = openDiffusionModel(sdxl as string);
    const tokenizer = model.tokenizer();
    using encoder = model.loadTextEncoder(target);
    const ids = tensor(tokenizer.encode('a small cat'), [1, ...tokenizer.shape], 'int64').to(target);
    const { text, pooled } = encoder.condition(ids, 1);
    expectAllclose(text, of('sdxl.text'), 1e-5);
    expectAllclose(pooled as Tensor, of('sdxl.pooled'), 1e-5);
  },
);
