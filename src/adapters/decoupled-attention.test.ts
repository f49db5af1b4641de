import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden } from '../../test/golden.js';
import { Attention, type SiteStep } from '../models/layers/attention.js';
import { backward, type Tensor } from '../torch/index.js';
import { ImageProjModel } from './base.js';
import type { IPAttnProcessor } from './decoupled-attention.js';
import { IPAdapter } from './ip-adapter.js';

const folder = golden('ip_attention') as string;
const config = JSON.parse(readFileSync(`${folder}/base.config.json`, 'utf8'));

/** The recorded layer as the only site of a backbone, and the adapter's part of it. */
function load() {
  const layer = new Attention({
    queryDim: config.query_dim,
    crossAttentionDim: config.cross_attention_dim,
    heads: config.heads,
    dimHead: config.dim_head,
  });
  const tensors = readGolden(`${folder}/base.weights.safetensors`);
  const part = (own: boolean): Map<string, Tensor> =>
    new Map(
      [...tensors]
        .filter(([key]) => key.startsWith('processor.') === own)
        .map(([key, value]) => [key.replace('processor.', ''), value]),
    );
  layer.loadStateDict(part(false), 'golden');
  const site = { name: 'attn2', keyIndex: 1, to_k: layer.to_k.weight, to_v: layer.to_v.weight };
  layer.site = site;
  const sizes = { embeddingDim: 1, numTokens: 1, crossAttentionDim: 1 };
  const adapter = new IPAdapter([site], new ImageProjModel(sizes));
  const processor = adapter.ip_adapter[1] as IPAttnProcessor;
  processor.loadStateDict(part(true), 'golden');
  const stepWith = (tokens: Tensor, scale: number): SiteStep => ({
    additions: [adapter.addition(tokens, scale)],
    grid: [1, 1],
  });
  return { layer, processor, stepWith, io: readGolden(`${folder}/base.io.safetensors`) };
}

describe('decoupled cross-attention', () => {
  it.each(['1.0', '0.6'])('gives the original output and gradients at scale %s', (scale) => {
    const { layer, processor, stepWith, io } = load();
    processor.requiresGrad_(true);
    layer.requiresGrad_(true);
    const at = (key: string): Tensor => io.get(key) as Tensor;
    const inputs = ['hidden_states', 'text', 'ip_tokens'].map(at) as [Tensor, Tensor, Tensor];
    for (const input of inputs) input.requiresGrad = true;
    const [hiddenStates, text, tokens] = inputs;
    const output = layer.call(hiddenStates, text, stepWith(tokens, Number(scale)));
    backward(output.mul(at('random')).mean());

    expectAllclose(output, at(`scale${scale}.output`), 1e-6);
    const gradients: Record<string, Tensor> = {
      hidden_states: hiddenStates,
      text,
      ip_tokens: tokens,
      'to_k_ip.weight': processor.to_k_ip.weight,
      'to_v_ip.weight': processor.to_v_ip.weight,
      'to_q.weight': layer.to_q.weight,
      'to_k.weight': layer.to_k.weight,
    };
    for (const [key, value] of Object.entries(gradients))
      expectAllclose(value.grad as Tensor, at(`scale${scale}.grad.${key}`), 1e-5);
  });

  it('at scale 0 is the layer without it, to the bit', () => {
    const { layer, stepWith, io } = load();
    const [hiddenStates, text, tokens] = ['hidden_states', 'text', 'ip_tokens'].map((key) => io.get(key)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const off = layer.call(hiddenStates, text, stepWith(tokens, 0)).toBytes();
    expect(off).toEqual(layer.call(hiddenStates, text).toBytes());
    expect(off).not.toEqual(layer.call(hiddenStates, text, stepWith(tokens, 1)).toBytes());
  });
});
