import { expect, it } from 'vitest';
import { Generator, type Tensor, zeros } from '../torch/index.js';
import { base } from './base.js';
import { fullFace } from './full-face.js';
import type { AdapterKind, ProjectionSizes } from './kind.js';
import { peerLimits } from './peer-limits.js';
import { plus } from './plus.js';

function adapterOf(kind: AdapterKind, sizes: ProjectionSizes): Map<string, Tensor> {
  const projection = (kind.projection as NonNullable<typeof kind.projection>).create(sizes);
  const tensors = projection.init(new Generator('cpu', 0)).namedParameters();
  return new Map([
    ...Array.from(tensors, ([key, value]) => [`image_proj.${key}`, value] as const),
    ['ip_adapter.1.to_k_ip.weight', zeros([8, sizes.crossAttentionDim])],
  ]);
}

it.each([
  ['Plus of SD 1.5', plus, { embeddingDim: 1280, crossAttentionDim: 768, numTokens: 16 }],
  ['Plus of SDXL', plus, { embeddingDim: 1280, crossAttentionDim: 2048, numTokens: 16 }],
  ['base of SD 1.5', base, { embeddingDim: 1024, crossAttentionDim: 768, numTokens: 4 }],
  ['base of SDXL', base, { embeddingDim: 1280, crossAttentionDim: 2048, numTokens: 4 }],
  ['full-face of SD 1.5', fullFace, { embeddingDim: 1280, crossAttentionDim: 768, numTokens: 0 }],
])('%s, as published, is loaded everywhere', (_, kind, sizes) => {
  expect(peerLimits(adapterOf(kind, sizes))).toEqual([]);
});

it('Plus with another number of tokens is not loaded by ComfyUI, but by diffusers', () => {
  const sizes = { embeddingDim: 1280, crossAttentionDim: 768, numTokens: 8 };
  expect(peerLimits(adapterOf(plus, sizes))).toEqual([
    'ComfyUI (ComfyUI_IPAdapter_plus) cannot load this adapter: it expects 16 image tokens, and there are 8',
  ]);
});

it('base with another number of tokens is loaded by neither', () => {
  const limits = peerLimits(adapterOf(base, { embeddingDim: 1024, crossAttentionDim: 768, numTokens: 8 }));
  expect(limits.map((limit) => limit.split(' ')[0])).toEqual(['ComfyUI', 'diffusers']);
});

it('full-face of SDXL, which is not published, is not loaded by ComfyUI', () => {
  const sizes = { embeddingDim: 32, crossAttentionDim: 2048, numTokens: 0 };
  expect(peerLimits(adapterOf(fullFace, sizes))).toEqual([
    expect.stringMatching(/^ComfyUI .* expects 1280 channels of the image tokens, and there are 2048$/),
  ]);
});

it('a narrow Plus has fewer heads than ComfyUI expects', () => {
  const [limit] = peerLimits(adapterOf(plus, { embeddingDim: 32, crossAttentionDim: 64, numTokens: 16 }));
  expect(limit).toMatch(/expects 12 attention heads of 64, and there are 1$/);
});
