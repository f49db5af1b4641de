import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden } from '../../test/golden.js';
import { Attention } from '../models/layers/attention.js';
import { backward, type Tensor, tensor } from '../torch/index.js';
import { ImageProjModel } from './base.js';
import type { IPAttnProcessor } from './decoupled-attention.js';
import { type ImagePrompt, promptAddition, sideTokens } from './image-prompt.js';
import { IPAdapter } from './ip-adapter.js';
import { maskAt, type RegionMask } from './region-mask.js';

const folder = golden('ip_attention_masks');

interface Recorded {
  attention: { query_dim: number; cross_attention_dim: number; heads: number; dim_head: number };
  query_hw: [number, number];
  variants: Record<string, { masks: boolean[] | null; scales: (number | number[])[] }>;
}

/** diffusers' layer with two adapters, as the only site of a backbone. */
function load(place: string) {
  const config = JSON.parse(readFileSync(join(place, 'attention.config.json'), 'utf8')) as Recorded;
  const { query_dim, cross_attention_dim, heads, dim_head } = config.attention;
  const layer = new Attention({
    queryDim: query_dim,
    crossAttentionDim: cross_attention_dim,
    heads,
    dimHead: dim_head,
  });
  const weights = readGolden(join(place, 'attention.weights.safetensors'));
  layer.loadStateDict(new Map([...weights].filter(([key]) => !key.startsWith('processor.'))), 'golden');
  const site = { name: 'attn2', keyIndex: 1, to_k: layer.to_k.weight, to_v: layer.to_v.weight };
  layer.site = site;
  const adapters = [0, 1].map((i) => {
    const sizes = { embeddingDim: 1, numTokens: 1, crossAttentionDim: 1 };
    const adapter = new IPAdapter([site], new ImageProjModel(sizes));
    const at = (key: string): Tensor => weights.get(`processor.${key}.${i}.weight`) as Tensor;
    const processor = adapter.ip_adapter[1] as IPAttnProcessor;
    processor.loadStateDict(
      new Map([
        ['to_k_ip.weight', at('to_k_ip')],
        ['to_v_ip.weight', at('to_v_ip')],
      ]),
      'golden',
    );
    processor.requiresGrad_(true);
    return { adapter, processor };
  });
  return { config, layer, adapters, io: readGolden(join(place, 'attention.io.safetensors')) };
}

const variants = ['masked', 'per_image_scales', 'some_masks', 'unmasked'];

describe.skipIf(folder === null)('ip_attention_masks (../shared/golden)', () => {
  it.each(variants)('%s: output and gradients of several adapters, images and masks', (name) => {
    const { config, layer, adapters, io } = load(folder as string);
    const at = (key: string): Tensor => io.get(key) as Tensor;
    const { masks, scales } = config.variants[name] as Recorded['variants'][string];
    const hidden = at('hidden_states');
    const tokens = [at('ip_tokens.0'), at('ip_tokens.1')];
    for (const input of [hidden, ...tokens]) input.requiresGrad = true;
    const prompts = adapters.flatMap(({ adapter }, i): ImagePrompt[] => {
      const own = tokens[i] as Tensor;
      const [, images = 0] = own.shape;
      const scale = scales[i] as number | number[];
      const shared = { adapter, range: [0, 1] as const };
      const prompt = (rows: Tensor, factor: number, mask?: RegionMask): ImagePrompt => ({
        ...{ ...shared, mask, tokens: rows, negativeTokens: rows, scale: factor },
      });
      if (!masks?.[i]) return [prompt(own.flatten(1, 2), scale as number)];
      return Array.from({ length: images }, (_, k) =>
        prompt(own.select(1, k), Array.isArray(scale) ? (scale[k] as number) : scale, {
          values: at(`masks.${i}`).select(1, k),
          fit: 'diffusers',
          latents: config.query_hw,
        }),
      );
    });
    const additions = prompts.map((prompt) => promptAddition(prompt, sideTokens(prompt).positive));
    const output = layer.call(hidden, at('text'), { additions, grid: config.query_hw });
    expectAllclose(output, at(`${name}.output`), 1e-5);
    backward(output.mul(at('random')).mean());
    expectAllclose(hidden.grad as Tensor, at(`${name}.grad.hidden_states`), 1e-4);
    for (const [i, { processor }] of adapters.entries()) {
      expectAllclose((tokens[i] as Tensor).grad as Tensor, at(`${name}.grad.ip_tokens.${i}`), 1e-4);
      for (const key of ['to_k_ip', 'to_v_ip'] as const)
        expectAllclose(processor[key].weight.grad as Tensor, at(`${name}.grad.${key}.${i}.weight`), 1e-4);
    }
  });

  it('masks get the size of the queries as in IPAdapterMaskProcessor, of another aspect ratio too', () => {
    const { config, io } = load(folder as string);
    for (const i of [0, 1]) {
      const masks = io.get(`masks.${i}`) as Tensor;
      for (let k = 0; k < (masks.shape[1] as number); k++) {
        const mask = { values: masks.select(1, k), fit: 'diffusers', latents: config.query_hw } as const;
        const expected = (io.get(`masks_downsampled.${i}`) as Tensor).select(0, k);
        expectAllclose(maskAt(mask, config.query_hw).flatten(), expected, 1e-5);
      }
    }
  });
});

describe('maskAt', () => {
  /** Left half 1. */
  const half = (height: number, width: number): Tensor =>
    tensor(
      Array.from({ length: height * width }, (_, i) => (i % width < width / 2 ? 1 : 0)),
      [1, height, width],
    );

  it('covers the whole image whatever the aspect ratio of the mask is', () => {
    const mask = { values: half(40, 40), fit: 'site', latents: [6, 16] } as const;
    const rows = maskAt(mask, [6, 16]).reshape(6, 16);
    for (let y = 0; y < 6; y++) {
      const row = rows.select(0, y).toNumbers();
      for (const [x, value] of row.entries())
        if (x !== 7 && x !== 8) expect(value, `${x}`).toBeCloseTo(x < 8 ? 1 : 0, 5);
    }
  });

  it("as ComfyUI, fills both ends where the latents' ratio gives too few rows and columns", () => {
    // 45 / √(45 · 5 / 69) is 24.9: 25 rows of 2 for 69 queries, so 19 are missing.
    const mask = { values: half(8, 8).mul(0).add(1), fit: 'comfyui', latents: [45, 5] } as const;
    const expected = [...Array(9).fill(0), ...Array(50).fill(1), ...Array(10).fill(0)];
    expect(maskAt(mask, [23, 3]).flatten().toNumbers()).toEqual(expected);
  });
});
