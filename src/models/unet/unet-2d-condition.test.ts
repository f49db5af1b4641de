import { describe, expect, it } from 'vitest';
import {
  expectAllclose,
  golden,
  type ModelCase,
  modelCases,
  recorded,
  target,
} from '../../../test/golden.js';
import { sd15, sdxl } from '../../../test/published-unets.js';
import {
  backward,
  Generator,
  memoryStats,
  noGrad,
  randn,
  type Tensor,
  tensor,
  tidy,
} from '../../torch/index.js';
import { loadUNet } from '../../weights/load.js';
import { UNet2DConditionModel } from './unet-2d-condition.js';
import { parseUNetConfig } from './unet-config.js';
import type { AddedCondition } from './unet-encoder.js';

const build = (json: object) => new UNet2DConditionModel(parseUNetConfig(json, 'config.json'));

const generator = new Generator('cpu', 7);
const random = (...shape: number[]) => randn(shape, { generator });

/** Random weights, small enough that activations stay moderate. */
function randomize(unet: UNet2DConditionModel): UNet2DConditionModel {
  const weights = Array.from(
    unet.namedParameters(),
    ([key, { shape }]) => [key, random(...shape).mul(0.1)] as const,
  );
  unet.loadStateDict(new Map(weights), 'random weights');
  return unet;
}

describe('UNet2DConditionModel, as the original computes it', () => {
  const cases = modelCases('unet');
  it('has recorded cases', () => expect(cases.length).toBeGreaterThan(0));

  // The second is how a GPU gets it.
  const layouts = ['as published', 'channels last'] as const;

  it.each(cases.flatMap((one) => layouts.map((layout) => [one.name, layout, one] as const)))(
    '%s, %s',
    (_, layout, one) => {
      const unet = loadUNet(one.folder, target);
      if (layout === 'channels last') unet.toChannelsLast();
      const gradients = [...one.tensors.keys()].filter((key) => key.startsWith('grad.'));
      const inputs = gradients.map((key) => recorded(one, key.slice('grad.'.length)));
      for (const input of inputs) Object.assign(input, { requiresGrad: true, grad: null });
      const output = unet.call(
        recorded(one, 'sample'),
        recorded(one, 'timesteps'),
        recorded(one, 'encoder_hidden_states'),
        addedCondition(one),
      );
      expectAllclose(output, recorded(one, 'output'), 2e-5);
      backward(output.mul(recorded(one, 'random')).mean());
      expect(gradients.length).toBeGreaterThan(0);
      for (const [i, key] of gradients.entries())
        expectAllclose(inputs[i]?.grad as Tensor, recorded(one, key), 2e-4);
    },
  );

  /** SDXL's, under whatever group of names it was recorded. */
  function addedCondition(one: ModelCase): AddedCondition | undefined {
    const input = (name: string) =>
      [...one.tensors].find(([key]) => key.split('.').at(-1) === name && !key.startsWith('grad.'))?.[1];
    const [textEmbeds, timeIds] = [input('text_embeds'), input('time_ids')];
    return textEmbeds && timeIds && { textEmbeds, timeIds };
  }
});

// A small UNet with SDXL's structure; the names are written out from diffusers' module tree.
describe('a tiny SDXL', () => {
  const tiny = {
    ...sdxl,
    addition_time_embed_dim: 4,
    attention_head_dim: [2, 4, 4],
    block_out_channels: [8, 16, 16],
    cross_attention_dim: 12,
    layers_per_block: 1,
    norm_num_groups: 4,
    projection_class_embeddings_input_dim: 6 * 4 + 10,
    transformer_layers_per_block: [1, 1, 2],
  };

  it('has the published names', () => {
    const pair = (name: string) => [`${name}.weight`, `${name}.bias`];
    const attention = (name: string) =>
      ['to_q', 'to_k', 'to_v'].map((part) => `${name}.${part}.weight`).concat(pair(`${name}.to_out.0`));
    const resnet = (name: string, shortcut: boolean) =>
      ['norm1', 'conv1', 'time_emb_proj', 'norm2', 'conv2', ...(shortcut ? ['conv_shortcut'] : [])].flatMap(
        (part) => pair(`${name}.${part}`),
      );
    const transformer = (name: string, layers: number) => [
      ...['norm', 'proj_in', 'proj_out'].flatMap((part) => pair(`${name}.${part}`)),
      ...Array.from({ length: layers }, (_, i) => `${name}.transformer_blocks.${i}`).flatMap((block) => [
        ...['norm1', 'norm2', 'norm3', 'ff.net.0.proj', 'ff.net.2'].flatMap((part) =>
          pair(`${block}.${part}`),
        ),
        ...attention(`${block}.attn1`),
        ...attention(`${block}.attn2`),
      ]),
    ];
    const expected = [
      ...[
        'conv_in',
        'time_embedding.linear_1',
        'time_embedding.linear_2',
        'conv_norm_out',
        'conv_out',
      ].flatMap(pair),
      ...['add_embedding.linear_1', 'add_embedding.linear_2'].flatMap(pair),
      ...resnet('down_blocks.0.resnets.0', false),
      ...pair('down_blocks.0.downsamplers.0.conv'),
      ...resnet('down_blocks.1.resnets.0', true),
      ...transformer('down_blocks.1.attentions.0', 1),
      ...pair('down_blocks.1.downsamplers.0.conv'),
      ...resnet('down_blocks.2.resnets.0', false),
      ...transformer('down_blocks.2.attentions.0', 2),
      ...resnet('mid_block.resnets.0', false),
      ...transformer('mid_block.attentions.0', 2),
      ...resnet('mid_block.resnets.1', false),
      ...[0, 1].flatMap((i) => resnet(`up_blocks.0.resnets.${i}`, true)),
      ...[0, 1].flatMap((i) => transformer(`up_blocks.0.attentions.${i}`, 2)),
      ...pair('up_blocks.0.upsamplers.0.conv'),
      ...[0, 1].flatMap((i) => resnet(`up_blocks.1.resnets.${i}`, true)),
      ...[0, 1].flatMap((i) => transformer(`up_blocks.1.attentions.${i}`, 1)),
      ...pair('up_blocks.1.upsamplers.0.conv'),
      ...[0, 1].flatMap((i) => resnet(`up_blocks.2.resnets.${i}`, true)),
    ];
    expect([...build(tiny).namedParameters().keys()].sort()).toEqual(expected.sort());
  });

  it('uses both of its added conditions', () => {
    using _ = noGrad();
    const unet = randomize(build(tiny));
    const condition = {
      textEmbeds: random(2, 10),
      timeIds: tensor([64, 64, 0, 0, 64, 64, 64, 32, 0, 8, 64, 64], [2, 6]),
    };
    const inputs = [random(2, 4, 8, 8), tensor([3, 999], [2], 'int64'), random(2, 5, 12)] as const;
    const output = unet.call(...inputs, condition);
    expect(output.shape).toEqual([2, 4, 8, 8]);
    const changed = [
      { ...condition, textEmbeds: condition.textEmbeds.mul(2) },
      { ...condition, timeIds: condition.timeIds.mul(2) },
    ].map((other) =>
      unet
        .call(...inputs, other)
        .sub(output)
        .abs()
        .max()
        .item(),
    );
    expect(Math.min(...changed)).toBeGreaterThan(0);
    expect(() => unet.call(...inputs)).toThrow(/addedCond/);
  });
});

describe('a tiny SD 2', () => {
  const tiny = {
    ...sd15,
    attention_head_dim: [2, 4],
    block_out_channels: [8, 16],
    cross_attention_dim: 12,
    down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
    layers_per_block: [1, 2],
    norm_num_groups: 4,
    only_cross_attention: [true, false],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
    upcast_attention: true,
    use_linear_projection: true,
  };

  it('takes sizes that do not halve evenly, and one timestep for the whole batch', () => {
    using _ = noGrad();
    const unet = randomize(build(tiny));
    const sample = random(2, 4, 7, 5);
    const text = random(2, 5, 12);
    const output = unet.call(sample, tensor([500], [], 'int64'), text);
    expect(output.shape).toEqual([2, 4, 7, 5]);
    expectAllclose(unet.call(sample, tensor([500, 500], [2], 'int64'), text), output, 1e-6);
  });

  it('has linear projections, and text in the first attention where only_cross_attention says so', () => {
    const shapes = build(tiny).namedParameters();
    const block = 'down_blocks.0.attentions.0';
    expect(shapes.get(`${block}.proj_in.weight`)?.shape).toEqual([8, 8]);
    expect(shapes.get(`${block}.transformer_blocks.0.attn1.to_k.weight`)?.shape).toEqual([8, 12]);
    expect(shapes.get('mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight')?.shape).toEqual([
      16, 16,
    ]);
  });

  it('computes in the dtype of its parameters', () => {
    using _ = noGrad();
    const unet = randomize(build(tiny));
    const inputs = [random(1, 4, 8, 8), tensor([981], [1], 'int64'), random(1, 5, 12)] as const;
    const exact = unet.call(...inputs);
    const output = unet.to({ dtype: 'bfloat16' }).call(...inputs);
    expect(output.dtype).toBe('bfloat16');
    expectAllclose(output.to('float32'), exact, 0.1);
  });

  it('leaves no tensors behind', () => {
    const unet = randomize(build(tiny));
    const inputs = [random(1, 4, 8, 8), tensor([1], [1], 'int64'), random(1, 5, 12)] as const;
    const before = memoryStats().liveTensors;
    tidy(() => void unet.call(...inputs));
    expect(memoryStats().liveTensors).toBe(before);
  });
});

describe('attentionLayers', () => {
  it('is in the order of diffusers, which numbers the modules of an adapter', () => {
    const names = build(sd15)
      .attentionLayers()
      .map(({ name }) => name);
    expect(names).toHaveLength(32);
    expect(names[0]).toBe('down_blocks.0.attentions.0.transformer_blocks.0.attn1');
    expect(names[12]).toBe('up_blocks.1.attentions.0.transformer_blocks.0.attn1');
    expect(names[31]).toBe('mid_block.attentions.0.transformer_blocks.0.attn2');
    expect(names.every((name, i) => name.endsWith(i % 2 === 0 ? 'attn1' : 'attn2'))).toBe(true);
  });

  it('lists a model’s recorded order', async ({ skip }) => {
    const config = golden('train/config.json');
    const folder = golden('unet/unet');
    if (config === null || folder === null) return skip('../shared/golden is not here');
    const { readFileSync } = await import('node:fs');
    const order: string[] = JSON.parse(readFileSync(config, 'utf8')).attn_processor_order;
    expect(
      loadUNet(folder)
        .attentionLayers()
        .map(({ name }) => `${name}.processor`),
    ).toEqual(order);
  });
});
