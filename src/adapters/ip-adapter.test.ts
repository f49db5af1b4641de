import { describe, expect, it } from 'vitest';
import { golden } from '../../test/golden.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { cat, Generator, randn, type Tensor, tensor } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { IPAdapter } from './ip-adapter.js';
import type { ResamplerConfig } from './resampler.js';
import { Resampler } from './resampler.js';

const tiny: ResamplerConfig = {
  dim: 32,
  depth: 1,
  dimHead: 8,
  heads: 2,
  numQueries: 4,
  embeddingDim: 48,
  outputDim: 32,
  ffMult: 2,
};

describe('IPAdapter', () => {
  it('attached and detached again, the UNet gives what it gave, to the bit', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const generator = new Generator('cpu', 1);
    const [sample, text, tokens] = [
      [1, 4, 8, 8],
      [1, 7, 32],
      [1, 4, 32],
    ].map((shape) => randn(shape, { generator })) as [Tensor, Tensor, Tensor];
    const timesteps = tensor([500], [1], 'int64');
    const keys = [...unet.namedParameters().keys()];
    const before = unet.call(sample, timesteps, text).toBytes();

    const adapter = new IPAdapter(unet, new Resampler(tiny)).init(generator);
    adapter.attach();
    expect([...unet.namedParameters().keys()]).toEqual(keys);
    const attached = unet.call(sample, timesteps, cat([text, tokens], 1)).toBytes();
    expect(attached).not.toEqual(before);
    adapter.setScale(0);
    expect(unet.call(sample, timesteps, cat([text, tokens], 1)).toBytes()).toEqual(before);
    adapter.detach();
    expect(unet.call(sample, timesteps, text).toBytes()).toEqual(before);
  });

  it('starts each layer from its own to_k and to_v, and as copies', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const adapter = new IPAdapter(unet, new Resampler(tiny)).init(new Generator('cpu', 0));
    const layers = unet.attentionLayers();
    adapter.ip_adapter.forEach((processor, i) => {
      expect(processor === null).toBe(layers[i]?.name.endsWith('.attn1'));
      if (processor === null) return;
      expect(processor.to_k_ip.weight.toBytes()).toEqual(layers[i]?.attention.to_k.weight.toBytes());
      expect(processor.to_v_ip.weight.toBytes()).toEqual(layers[i]?.attention.to_v.weight.toBytes());
      processor.to_k_ip.weight.zero_();
      expect(layers[i]?.attention.to_k.weight.abs().max().item()).toBeGreaterThan(0);
    });
  });

  it('has the keys and the size of the official ip-adapter-plus_sd15', () => {
    const sd15 = { _class_name: 'UNet2DConditionModel', cross_attention_dim: 768, attention_head_dim: 8 };
    const unet = new UNet2DConditionModel(parseUNetConfig(sd15, 'config.json'));
    const adapter = new IPAdapter(
      unet,
      new Resampler({
        ...tiny,
        dim: 768,
        depth: 4,
        dimHead: 64,
        heads: 12,
        numQueries: 16,
        embeddingDim: 1280,
        outputDim: 768,
        ffMult: 4,
      }),
    );
    const parameters = adapter.namedParameters();
    expect([...parameters.values()].reduce((sum, { numel }) => sum + numel, 0)).toBe(49_087_488);
    const layers = [...parameters.keys()].filter((key) => key.startsWith('ip_adapter.'));
    const odd = Array.from({ length: 16 }, (_, i) => 2 * i + 1);
    expect(layers).toEqual(
      odd.flatMap((n) => [`ip_adapter.${n}.to_k_ip.weight`, `ip_adapter.${n}.to_v_ip.weight`]),
    );
    expect(parameters.get('ip_adapter.31.to_k_ip.weight')?.shape).toEqual([1280, 768]);
    expect(parameters.get('ip_adapter.1.to_k_ip.weight')?.shape).toEqual([320, 768]);
  });
});
