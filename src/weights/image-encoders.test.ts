import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { type Shapes, shapesOf } from '../../test/full-size-keys.js';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { openImageEncoder } from '../adapters/image-encoder.js';
import { ConfigError } from '../base/errors.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { empty, zeros } from '../torch/index.js';
import { loadImageEncoder, readImageEncoder } from './image-encoders.js';

const root = golden('vision_encoders') as string;
const names = ['vit', 'dinov2', 'dinov2_swiglu', 'dinov2_registers', 'siglip'];
const temporary = mkdtempSync(join(tmpdir(), 'image-encoders-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** A copy of a recorded model with other keys in its config. */
function changed(name: string, config: Record<string, unknown>): string {
  const folder = join(temporary, `${name}-${Object.keys(config).join('-')}`);
  cpSync(join(root, name), folder, { recursive: true });
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...config }));
  return folder;
}

describe.each(names)('%s, as transformers computes it', (name) => {
  const io = readGolden(join(root, name, 'io.safetensors'));
  const recorded = (key: string) => io.get(key) as NonNullable<ReturnType<typeof io.get>>;
  const encoder = openImageEncoder(join(root, name)).load(target);

  it('hidden states and pooled output', () => {
    const pixels = recorded('pixel_values');
    const model = loadImageEncoder(join(root, name), target, encoder.preprocess.cropSize);
    expectAllclose(model.hiddenStates(pixels, 0), recorded('hidden_states.0'), 1e-5);
    expectAllclose(encoder.encode(pixels, 'tokens'), recorded('hidden_states.-2'), 1e-5);
    expectAllclose(encoder.encode(pixels, 'pooled'), recorded('pooled'), 1e-5);
    expect(encoder.widths).toEqual({ tokens: 16, pooled: 16 });
  });

  it('pixels of an image', () => {
    const { tensors } = readSafetensors(join(root, 'preprocess.safetensors'));
    const [height = 0, width = 0] = tensors.get('image')?.shape ?? [];
    const data = Uint8Array.from(tensors.get('image')?.toNumbers() ?? []);
    const expected = tensors.get(name) as NonNullable<ReturnType<typeof tensors.get>>;
    const values = encoder.preprocess.pixelValues([{ data, width, height }]);
    expectAllclose(values.toTensor().view(...expected.shape), expected, 1e-6);
  });
});

it('takes the settings of each class where the folder has no preprocessor_config.json', () => {
  for (const [name, size] of [
    ['vit', 32],
    ['siglip', 32],
    ['dinov2', 224],
  ] as const) {
    const folder = changed(name, {
      patch_size: JSON.parse(readFileSync(join(root, name, 'config.json'), 'utf8')).patch_size,
    });
    rmSync(join(folder, 'preprocessor_config.json'));
    expect(openImageEncoder(folder).preprocess.cropSize).toBe(size);
  }
});

it('reads SigLIP as transformers 4 wrote it, and a whole SigLIP', () => {
  const folder = changed('siglip', { model_type: 'siglip_vision_model' });
  const weights = join(folder, 'model.safetensors');
  const prefixed = new Map(
    Array.from(readSafetensors(weights).tensors, ([key, value]) => [`vision_model.${key}`, value.clone()]),
  );
  for (const key of ['logit_scale', 'logit_bias', 'text_model.head.bias']) prefixed.set(key, zeros([1]));
  writeSafetensors(weights, prefixed);
  const file = join(folder, 'config.json');
  const vision_config = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ model_type: 'siglip', text_config: {}, vision_config }));
  const io = readGolden(join(root, 'siglip', 'io.safetensors'));
  const encoder = openImageEncoder(folder).load(target);
  expectAllclose(encoder.encode(io.get('pixel_values') as never, 'pooled'), io.get('pooled') as never, 1e-5);
});

it('asks for the names and shapes of the published models, but for those that it does not use', () => {
  const published: Record<string, { config: object; shapes: Shapes }> = JSON.parse(
    gunzipSync(readFileSync(join(root, 'full_size.json.gz'))).toString(),
  );
  expect(Object.keys(published)).toHaveLength(6);
  const folder = changed('vit', {});
  for (const [name, { config, shapes }] of Object.entries(published)) {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    const { create, adapt } = readImageEncoder(folder);
    const weights = Object.entries(shapes).map(
      ([key, shape]) => [key, empty(shape, { device: 'meta' })] as const,
    );
    const { tensors, unused } = adapt(new Map(weights));
    const model = create(name.includes('dinov2') ? 224 : undefined);
    expect(shapesOf(model), name).toEqual(shapesOf({ namedParameters: () => tensors }));
    // The mask token of DINOv2's training, and the pooler of a ViT's classifier.
    const expected = name.includes('dinov2')
      ? ['embeddings.mask_token']
      : name.includes('dino-')
        ? ['pooler.dense.bias', 'pooler.dense.weight']
        : [];
    expect(unused.sort(), name).toEqual(expected);
  }
});

it('refuses other models, and configs that would be computed differently', () => {
  expect(() => readImageEncoder(changed('vit', { model_type: 'beit' }))).toThrow(
    /model_type = "clip_vision_model" or .* but received "beit"/,
  );
  expect(() => readImageEncoder(changed('vit', { hidden_act: 'relu' }))).toThrow(ConfigError);
  expect(() => readImageEncoder(changed('siglip', { vision_use_head: false }))).toThrow('vision_use_head');
  expect(() => readImageEncoder(changed('dinov2', { num_attention_heads: 3 })).create()).toThrow(
    'num_attention_heads',
  );
});
