import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden } from '../../test/golden.js';
import { Attention, defaultProcessor } from '../models/layers/attention.js';
import { backward, cat, type Tensor } from '../torch/index.js';
import { IPAttnProcessor } from './ip-attn-processor.js';

const folder = golden('ip_attention') as string;
const config = JSON.parse(readFileSync(`${folder}/base.config.json`, 'utf8'));

function load(): { layer: Attention; processor: IPAttnProcessor; io: Map<string, Tensor> } {
  const layer = new Attention({
    queryDim: config.query_dim,
    crossAttentionDim: config.cross_attention_dim,
    heads: config.heads,
    dimHead: config.dim_head,
  });
  const processor = new IPAttnProcessor(
    config.heads * config.dim_head,
    config.cross_attention_dim,
    config.num_tokens,
  );
  const tensors = readGolden(`${folder}/base.weights.safetensors`);
  const part = (own: boolean): Map<string, Tensor> =>
    new Map(
      [...tensors]
        .filter(([key]) => key.startsWith('processor.') === own)
        .map(([key, value]) => [key.replace('processor.', ''), value]),
    );
  layer.loadStateDict(part(false), 'golden');
  processor.loadStateDict(part(true), 'golden');
  layer.processor = processor;
  return { layer, processor, io: readGolden(`${folder}/base.io.safetensors`) };
}

describe('decoupled cross-attention', () => {
  it.each(['1.0', '0.6'])('gives the original output and gradients at scale %s', (scale) => {
    const { layer, processor, io } = load();
    processor.scale = Number(scale);
    processor.requiresGrad_(true);
    layer.requiresGrad_(true);
    const at = (key: string): Tensor => io.get(key) as Tensor;
    const inputs = ['hidden_states', 'text', 'ip_tokens'].map(at) as [Tensor, Tensor, Tensor];
    for (const input of inputs) input.requiresGrad = true;
    const [hiddenStates, text, tokens] = inputs;
    const output = layer.call(hiddenStates, cat([text, tokens], 1));
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
    const { layer, processor, io } = load();
    const [hiddenStates, text, tokens] = ['hidden_states', 'text', 'ip_tokens'].map((key) => io.get(key)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    processor.scale = 0;
    const off = layer.call(hiddenStates, cat([text, tokens], 1)).toBytes();
    const plain = load().layer;
    plain.processor = defaultProcessor;
    expect(off).toEqual(plain.call(hiddenStates, text).toBytes());
    processor.scale = 1;
    expect(off).not.toEqual(layer.call(hiddenStates, cat([text, tokens], 1)).toBytes());
  });
});
