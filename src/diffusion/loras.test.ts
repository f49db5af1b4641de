import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose } from '../../test/golden.js';
import { CheckpointError } from '../base/errors.js';
import { writeSafetensors } from '../formats/index.js';
import { Generator, randn, type Tensor, tensor } from '../torch/index.js';
import { openLoras, withLoras } from './loras.js';
import { openModelParts } from './model-parts.js';

let world: World;
let root: string;
beforeAll(async () => {
  world = await makeWorld(1);
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-lora-'));
});
afterAll(() => {
  world.remove();
  rmSync(root, { recursive: true });
});

const generator = new Generator('cpu', 3);
const random = (...shape: number[]): Tensor => randn(shape, { generator });
const target = { device: 'cpu', dtype: 'float32' } as const;
let count = 0;

/** Writes a file of these tensors and merges it; returns the weights of all parts, and what was said. */
function merge(tensors: Record<string, Tensor>, { scale = 1, metadata = {} as Record<string, string> } = {}) {
  const path = join(root, `${count++}.safetensors`);
  writeSafetensors(path, new Map(Object.entries(tensors)), metadata);
  return { path, ...mergeFiles({ path, scale }) };
}

function mergeFiles(...loras: { path: string; scale: number }[]) {
  using merger = openLoras(loras);
  const parts = withLoras(openModelParts(join(world.root, 'model')), merger);
  const weights = new Map([
    ...parts.loadUNet(target).namedParameters(),
    ...parts.loadTextEncoder(target).namedParameters(),
  ]);
  const told: string[] = [];
  merger.finish('Stable Diffusion', (text) => told.push(text));
  return { told, of: (key: string): Tensor => weights.get(key) as Tensor };
}

const plain = (key: string): Tensor => mergeFiles().of(key);

const query = 'down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight';
const conv = 'down_blocks.0.resnets.0.conv1.weight';
const text = 'text_model.encoder.layers.0.self_attn.q_proj.weight';

/** up · down of matrices by their definition. */
function product(up: Tensor, down: Tensor): Tensor {
  const [out = 0, rank = 0] = up.shape;
  const inner = down.numel / rank;
  const [a, b] = [up.toNumbers(), down.toNumbers()];
  const values = Array.from({ length: out * inner }, (_, at) => {
    const [row, column] = [Math.floor(at / inner), at % inner];
    return Array.from({ length: rank }, (_, k) => k).reduce(
      (sum, k) => sum + (a[row * rank + k] as number) * (b[k * inner + column] as number),
      0,
    );
  });
  return tensor(values, [out, inner]);
}

const expectChange = (of: (key: string) => Tensor, key: string, change: Tensor, factor: number) =>
  expectAllclose(of(key), plain(key).add(change.reshape(...of(key).shape), factor), 1e-5);

describe('a LoRA', () => {
  it("of kohya's scripts is merged by each layer's alpha and rank, in linear layers and convolutions", () => {
    const [width] = plain(query).shape as [number];
    const [out, inner] = plain(conv).shape as [number, number];
    const [textWidth] = plain(text).shape as [number];
    const matrices = {
      query: { down: random(4, width), up: random(width, 4) },
      conv: { down: random(2, inner, 3, 3), up: random(out, 2, 1, 1) },
      text: { down: random(3, textWidth), up: random(textWidth, 3) },
    };
    const names = {
      query: 'lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q',
      conv: 'lora_unet_input_blocks_1_0_in_layers_2',
      text: 'lora_te_text_model_encoder_layers_0_self_attn_q_proj',
    };
    const { of, told, path } = merge(
      {
        [`${names.query}.lora_down.weight`]: matrices.query.down,
        [`${names.query}.lora_up.weight`]: matrices.query.up,
        [`${names.query}.alpha`]: tensor([2], []),
        [`${names.conv}.lora_down.weight`]: matrices.conv.down,
        [`${names.conv}.lora_up.weight`]: matrices.conv.up,
        [`${names.conv}.alpha`]: tensor([3], []),
        [`${names.text}.lora_down.weight`]: matrices.text.down,
        [`${names.text}.lora_up.weight`]: matrices.text.up,
      },
      { scale: 0.5 },
    );
    expect(told).toEqual([`LoRA ${path}: 3 layers merged at scale 0.5`]);
    expectChange(of, query, product(matrices.query.up, matrices.query.down), 0.5 * (2 / 4));
    expectChange(of, conv, product(matrices.conv.up, matrices.conv.down), 0.5 * (3 / 2));
    expectChange(of, text, product(matrices.text.up, matrices.text.down), 0.5);
    const untouched = query.replace('to_q', 'to_k');
    expectAllclose(of(untouched), plain(untouched), 0);
  });

  it('leaves the files of the model as they are', () => {
    const file = join(world.root, 'model/unet/diffusion_pytorch_model.safetensors');
    const hash = () => createHash('sha256').update(readFileSync(file)).digest('hex');
    const before = hash();
    const [width] = plain(query).shape as [number];
    const name = `unet.${query.replace('.weight', '')}`;
    const { of } = merge({
      [`${name}.lora_A.weight`]: random(2, width),
      [`${name}.lora_B.weight`]: random(width, 2),
    });
    expect(of(query).isMapped).toBe(false);
    expect(hash()).toBe(before);
  });

  it('with the alphas that diffusers and PEFT keep beside the weights', () => {
    const [width] = plain(query).shape as [number];
    const [down, up] = [random(4, width), random(width, 4)];
    const layer = query.replace('.weight', '');
    const tensors = (name: string) => ({ [`${name}.lora_A.weight`]: down, [`${name}.lora_B.weight`]: up });
    const change = product(up, down);
    const described = { 'unet.r': 4, 'unet.lora_alpha': 8, 'text_encoder.lora_alpha': 1 };
    const metadata = { lora_adapter_metadata: JSON.stringify(described) };
    expectChange(merge(tensors(`unet.${layer}`), { metadata }).of, query, change, 2);
    const folder = join(root, 'peft');
    mkdirSync(folder);
    const config = { r: 4, lora_alpha: 8, use_rslora: true, alpha_pattern: { 'attn1.to_q': 6 } };
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
    const file = join(folder, 'adapter_model.safetensors');
    writeSafetensors(file, new Map(Object.entries(tensors(`base_model.model.${layer}`))));
    expectChange(mergeFiles({ path: folder, scale: 1 }).of, query, change, 6 / Math.sqrt(4));
  });

  it('is added to another', () => {
    const [width] = plain(query).shape as [number];
    const files = [0, 1].map(() => {
      const [down, up] = [random(2, width), random(width, 2)];
      const name = query.replace('to_q.weight', 'processor.to_q_lora');
      const { path } = merge({ [`${name}.down.weight`]: down, [`${name}.up.weight`]: up });
      return { path, change: product(up, down) };
    });
    const [one, other] = files as [(typeof files)[0], (typeof files)[0]];
    const { of } = mergeFiles({ path: one.path, scale: 0.5 }, { path: other.path, scale: -2 });
    expectAllclose(of(query), plain(query).add(one.change, 0.5).add(other.change, -2), 1e-5);
    expect(mergeFiles({ path: one.path, scale: 0 }).of(query).isMapped).toBe(true);
  });

  it('of which a part belongs to no layer is used as far as it does, and the rest is named', () => {
    const [width] = plain(query).shape as [number];
    const pair = (name: string) => ({
      [`${name}.lora_down.weight`]: random(2, width),
      [`${name}.lora_up.weight`]: random(width, 2),
    });
    const good = `lora_unet_${query.replace('.weight', '').replaceAll('.', '_')}`;
    const { told } = merge({ ...pair(good), ...pair('lora_unet_down_blocks_9_to_q'), other: random(1) });
    expect(told).toEqual([
      expect.stringMatching(
        /: 1 layers merged at scale 1; not used, .*: lora_unet_down_blocks_9_to_q, other$/,
      ),
    ]);
  });

  it('of another model is refused', () => {
    const [width] = plain(query).shape as [number];
    const pair = (name: string, inner = width) => ({
      [`${name}.lora_down.weight`]: random(2, inner),
      [`${name}.lora_up.weight`]: random(width, 2),
    });
    expect(() => merge(pair('lora_unet_down_blocks_9_to_q'))).toThrow(
      /Expected a LoRA for Stable Diffusion in .* but the model has none of its 1 layers, such as lora_unet_down_blocks_9_to_q; it may be for another model/,
    );
    expect(() => merge(pair('transformer.single_blocks.0.linear1'))).toThrow(/as in Flux/);
    const name = `lora_unet_${query.replace('.weight', '').replaceAll('.', '_')}`;
    const wide = () => merge(pair(name, width + 8));
    expect(wide).toThrow(CheckpointError);
    expect(wide).toThrow(`[${width}, 2] · [2, ${width + 8}] for ${query}, which is [${width}, ${width}]`);
  });

  it.each([
    ['a DoRA', 'dora_scale'],
    ['a LoHa', 'hada_w1_a'],
    ['a LoKr', 'lokr_w1'],
    ['an OFT', 'oft_blocks'],
    ['whole differences', 'diff_b'],
  ])('is refused where it is %s', (what, key) => {
    const name = 'lora_unet_mid_block_attentions_0_proj_in';
    const tensors = {
      [`${name}.lora_down.weight`]: random(1, 1),
      [`${name}.lora_up.weight`]: random(1, 1),
      [`${name}.${key}`]: random(1),
    };
    expect(() => merge(tensors)).toThrow(CheckpointError);
    expect(() => merge(tensors)).toThrow(new RegExp(`is (${what}|one that has ${what}).*${name}.${key}`));
  });

  it('that is not whole, or none at all, is refused', () => {
    expect(() => merge({ 'a.lora_down.weight': random(1, 1) })).toThrow(/a has no up/);
    expect(() => merge({ 'a.weight': random(1) })).toThrow(
      /Expected a LoRA in .* but its keys are a\.weight/,
    );
    expect(() => mergeFiles({ path: join(root, 'none.safetensors'), scale: 1 })).toThrow(
      /^--lora \(loras\) is .*none\.safetensors: Expected a model at/,
    );
    mkdirSync(join(root, 'empty'));
    expect(() => mergeFiles({ path: join(root, 'empty'), scale: 1 })).toThrow(
      /no pytorch_lora_weights\.safetensors; give a file/,
    );
  });
});
