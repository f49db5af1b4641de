import { describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import type { AttentionSite } from '../models/layers/attention-site.js';
import type { BlockScales, WeightType } from '../options/reference-options.js';
import { zeros } from '../torch/index.js';
import { transformersOf } from './transformers.js';
import { type SitePlan, sitePlan } from './weight-types.js';

/** Sites in the order of diffusers' layers: down, up, mid. */
function sitesOf(blocks: readonly [block: string, transformers: number, depth: number][]): AttentionSite[] {
  const weight = zeros([1, 1]);
  const names = blocks.flatMap(([block, transformers, depth]) =>
    Array.from({ length: transformers }, (_, i) =>
      Array.from({ length: depth }, (_, j) => `${block}.attentions.${i}.transformer_blocks.${j}.attn2`),
    ).flat(),
  );
  return names.map((name, i) => ({ name, keyIndex: 2 * i + 1, to_k: weight, to_v: weight }));
}

const sd15 = sitesOf([
  ...[0, 1, 2].map((i): [string, number, number] => [`down_blocks.${i}`, 2, 1]),
  ...[1, 2, 3].map((i): [string, number, number] => [`up_blocks.${i}`, 3, 1]),
  ['mid_block', 1, 1],
]);
const sdxl = sitesOf([
  ['down_blocks.1', 2, 2],
  ['down_blocks.2', 2, 10],
  ['up_blocks.0', 3, 10],
  ['up_blocks.1', 3, 2],
  ['mid_block', 1, 10],
]);
const tiny = sitesOf([
  ['down_blocks.0', 1, 1],
  ['up_blocks.1', 2, 1],
  ['mid_block', 1, 1],
]);

/** The scale of each transformer that has one, in the order of execution, with its letter where tokens are not the image's. */
function table(sites: readonly AttentionSite[], weightType: WeightType, settings = {}): string {
  const plan = sitePlan(sites, 1, { weightType, ...settings }) as SitePlan;
  return transformersOf(sites)
    .map(({ sites: own }, i) => {
      const uses = own.map(({ name }) => plan.get(name));
      expect(new Set(uses.map((use) => JSON.stringify(use))).size).toBe(1);
      const [use] = uses;
      const mark = { image: '', composition: 'c', exchanged: 'x' }[use?.tokens ?? 'image'];
      return use?.scale ? `${i}:${Number(use.scale.toFixed(6))}${mark}` : '';
    })
    .filter((one) => one !== '')
    .join(' ');
}

const all = (count: number, scale: (i: number) => number): string =>
  Array.from({ length: count }, (_, i) => `${i}:${Number(scale(i).toFixed(6))}`).join(' ');

describe('sitePlan', () => {
  it('has 16 transformers in Stable Diffusion 1.5 and 11 in SDXL, the middle in the middle', () => {
    expect(transformersOf(sd15).map(({ part }) => part[0])).toEqual([...'ddddddmuuuuuuuuu']);
    expect(transformersOf(sdxl).map(({ part }) => part[0])).toEqual([...'ddddmuuuuuu']);
    expect(sitePlan(sd15, 0.7, {})).toBe(0.7);
  });

  // The tables of IPAdapterPlus.py, ipadapter_execute.
  it.each<[WeightType, string, string]>([
    ['style', '0:1 1:1 2:1 3:1 9:1 10:1 11:1 12:1 13:1 14:1 15:1', '6:1'],
    ['style-transfer', '0:1 1:1 2:1 3:1 9:1 10:1 11:1 12:1 13:1 14:1 15:1', '6:1'],
    ['composition', '4:0.25 5:1', '3:1'],
    [
      'strong-style-transfer',
      '0:1 1:1 2:1 3:1 6:1 7:1 8:1 9:1 10:1 11:1 12:1 13:1 14:1 15:1',
      '0:1 1:1 2:1 4:1 5:1 6:1 7:1 8:1 9:1 10:1',
    ],
    ['style-and-composition', '0:1 1:1 2:1 3:1 4:0.25c 5:1c 9:1 10:1 11:1 12:1 13:1 14:1 15:1', '3:1c 6:1'],
    ['style-transfer-precise', '0:1 1:1 2:1 3:1 4:0.25x 5:1x 9:1 10:1 11:1 12:1 13:1 14:1 15:1', '3:1x 6:1'],
    [
      'composition-precise',
      '0:1x 1:1x 2:1x 3:1x 4:0.25 5:1 6:0.1x 7:0.1x 8:0.1x 9:1x 10:1x 11:1x 12:1x 13:1x 14:1x 15:1x',
      '0:0.1x 1:0.1x 2:0.1x 3:1 4:0.1x 5:0.1x 6:1x 7:0.1x 8:0.1x 9:0.1x 10:0.1x',
    ],
    ['ease-in', all(16, (i) => 1 - (0.95 * i) / 16), all(11, (i) => 1 - (0.95 * i) / 11)],
    ['ease-out', all(16, (i) => 0.05 + (0.95 * i) / 16), all(11, (i) => 0.05 + (0.95 * i) / 11)],
    [
      'ease-in-out',
      all(16, (i) => 0.05 + 0.95 * (1 - Math.abs(i - 8) / 8)),
      all(11, (i) => 0.05 + 0.95 * (1 - Math.abs(i - 5.5) / 5.5)),
    ],
    [
      'reverse-in-out',
      all(16, (i) => 0.05 + (0.95 * Math.abs(i - 8)) / 8),
      all(11, (i) => 0.05 + (0.95 * Math.abs(i - 5.5)) / 5.5),
    ],
    ['weak-input', all(16, (i) => (i < 6 ? 0.2 : 1)), all(11, (i) => (i < 4 ? 0.2 : 1))],
    ['weak-middle', all(16, (i) => (i === 6 ? 0.2 : 1)), all(11, (i) => (i === 4 ? 0.2 : 1))],
    ['weak-output', all(16, (i) => (i > 6 ? 0.2 : 1)), all(11, (i) => (i > 4 ? 0.2 : 1))],
    ['strong-middle', all(16, (i) => (i === 6 ? 1 : 0.2)), all(11, (i) => (i === 4 ? 1 : 0.2))],
  ])('spreads %s as ComfyUI does', (type, inSd15, inSdxl) => {
    expect(table(sd15, type)).toBe(inSd15);
    expect(table(sdxl, type)).toBe(inSdxl);
  });

  it('has scales of their own for composition and style', () => {
    expect(table(sdxl, 'style-and-composition', { compositionScale: 0.5 })).toBe('3:0.5c 6:1');
    expect(table(sdxl, 'style-transfer-precise', { compositionScale: 2 })).toBe('3:2x 6:1');
    expect(table(sdxl, 'composition-precise', { styleScale: 0 })).toBe('3:1');
  });

  it('spreads easing over any model, and refuses tables for layers that it does not know', () => {
    expect(table(tiny, 'ease-in')).toBe('0:1 1:0.7625 2:0.525 3:0.2875');
    expect(() => sitePlan(tiny, 1, { weightType: 'style' })).toThrow(ConfigError);
    expect(() => sitePlan(tiny, 1, { weightType: 'style' })).toThrow(
      /style is for .* with 16 or 11 transformers, and this model has 4; give --block-scales/,
    );
  });
});

describe('blockScales', () => {
  const scales = (sites: AttentionSite[], blockScales: BlockScales): string =>
    table(sites, 'linear', { blockScales });

  // InstantStyle's dictionaries, and the example of diffusers' unet_loader_utils.py.
  it.each<[string, AttentionSite[], BlockScales, string]>([
    ['style', sdxl, { up: { block_0: [0, 1, 0] } }, '6:1'],
    ['style and layout', sdxl, { down: { block_2: [0, 1] }, up: { block_0: [0, 1, 0] } }, '3:1 6:1'],
    [
      'numbers for parts and blocks',
      sd15,
      { down: 2, mid: 3, up: { block_1: 4, block_2: [5, 6, 7] } },
      '0:2 1:2 2:2 3:2 4:2 5:2 6:3 7:4 8:4 9:4 10:5 11:6 12:7',
    ],
    ['a list for every block of a part', sd15, { down: [1, 0.5] }, '0:1 1:0.5 2:1 3:0.5 4:1 5:0.5'],
    [
      'names of blocks and layers',
      sdxl,
      { 'up_blocks.0': 0.5, 'up_blocks.0.attentions.1': 1 },
      '5:0.5 6:1 7:0.5',
    ],
    ['numbers of transformers', sdxl, { 3: 0.7, 10: 0.2 }, '3:0.7 10:0.2'],
  ])('reads %s', (_, sites, blockScales, expected) => {
    expect(scales(sites, blockScales)).toBe(expected);
  });

  it('reads the name of one site', () => {
    const name = 'up_blocks.0.attentions.1.transformer_blocks.3.attn2';
    const plan = sitePlan(sdxl, 2, { blockScales: { [name]: 0.5 } }) as SitePlan;
    const used = [...plan].filter(([, { scale }]) => scale !== 0);
    expect(used).toEqual([[name, { scale: 1, tokens: 'image' }]]);
  });

  it.each<[BlockScales, RegExp]>([
    [{ up: { blok_0: 1 } }, /names up\.blok_0.*did you mean up\.block_0\?.*Its blocks are down\.block_1/],
    [{ down: { block_0: 1 } }, /names down\.block_0, which this model does not have, or which has no cross/],
    [{ 'up_block.0': 1 }, /did you mean up_blocks\.0\?/],
    [{ middle: 1 }, /names middle, .*cross-attention\. Its blocks are .*, mid, /],
    [{ 11: 1 }, /names 11, .*its transformers 0 to 10/],
    [
      { up: { block_0: [1, 0] } },
      /has 2 numbers for up\.block_0, and up_blocks\.0 has 3 transformers; give one number, or 3/,
    ],
  ])('refuses %j', (blockScales, message) => {
    expect(() => sitePlan(sdxl, 1, { blockScales })).toThrow(ConfigError);
    expect(() => sitePlan(sdxl, 1, { blockScales })).toThrow(message);
  });
});
