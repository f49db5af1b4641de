import { describe, expect, it } from 'vitest';
import { expectAllclose, golden } from '../../test/golden.js';
import type { SiteAddition } from '../models/layers/attention-site.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import {
  backward,
  Generator,
  GradientCheckpoints,
  randn,
  type Tensor,
  tensor,
  tidy,
} from '../torch/index.js';
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

const inputs = (...shapes: number[][]) => {
  const generator = new Generator('cpu', 1);
  return shapes.map((shape) => randn(shape, { generator })) as [Tensor, Tensor, Tensor];
};

describe('IPAdapter', () => {
  it('leaves the UNet as it is: without an addition, or at scale 0, it gives what it gave to the bit', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const [sample, text, tokens] = inputs([1, 4, 8, 8], [1, 7, 32], [1, 4, 32]);
    const timesteps = tensor([500], [1], 'int64');
    const keys = [...unet.namedParameters().keys()];
    const plain = unet.call(sample, timesteps, text).toBytes();
    const adapter = new IPAdapter(unet.sites(), new Resampler(tiny)).init(new Generator('cpu', 1));
    const bytes = (...additions: SiteAddition[]) =>
      unet.call(sample, timesteps, text, undefined, additions).toBytes();
    expect(bytes(adapter.addition(tokens))).not.toEqual(plain);
    expect(bytes(adapter.addition(tokens, 0))).toEqual(plain);
    expect(bytes()).toEqual(plain);
    expect([...unet.namedParameters().keys()]).toEqual(keys);
  });

  it('is called at every site, with the height and width of its latents', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const [sample, text] = inputs([1, 4, 8, 16], [1, 7, 32]);
    const calls: [string, ...number[]][] = [];
    const observer: SiteAddition = {
      at({ site, grid, attend }) {
        const attended = attend(
          site.to_k.matmul(text.transpose(1, 2)).transpose(1, 2),
          site.to_v.matmul(text.transpose(1, 2)).transpose(1, 2),
        );
        calls.push([site.name, ...grid, attended.shape[1] as number]);
        return null;
      },
    };
    unet.call(sample, tensor([5], [1], 'int64'), text, undefined, [observer]);
    expect(calls.map(([name]) => name).sort()).toEqual(
      unet
        .sites()
        .map(({ name }) => name)
        .sort(),
    );
    for (const [, height = 0, width = 0, queries] of calls as unknown as [string, number, number, number][]) {
      expect(width).toBe(2 * height);
      expect(queries).toBe(height * width);
    }
  });

  it('two adapters add to one another, and checkpointed segments give both the same gradients', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const [sample, text, features] = inputs([2, 4, 8, 8], [2, 7, 32], [2, 5, 48]);
    const timesteps = tensor([5, 700], [2], 'int64');
    const adapters = [1, 2].map((seed) =>
      new IPAdapter(unet.sites(), new Resampler(tiny)).init(new Generator('cpu', seed)).requiresGrad_(true),
    );
    const gradients = (isCheckpointed: boolean): Tensor[] =>
      tidy(() => {
        using checkpoints = isCheckpointed ? new GradientCheckpoints() : null;
        const additions = adapters.map((adapter, i) => adapter.addition(adapter.call(features), 1 - 0.5 * i));
        const loss = unet.call(sample, timesteps, text, undefined, additions).square().mean();
        backward(loss);
        checkpoints?.backward();
        return adapters.flatMap((adapter) =>
          adapter.parameters().map((parameter) => {
            const gradient = parameter.grad as Tensor;
            parameter.grad = null;
            return gradient;
          }),
        );
      });
    const [kept, again] = [gradients(false), gradients(true)];
    expect(kept.every((gradient) => gradient.abs().max().item() > 0)).toBe(true);
    for (const [i, gradient] of kept.entries()) expectAllclose(again[i] as Tensor, gradient, 1e-5);
  });

  it('starts each layer from its own to_k and to_v, and as copies', () => {
    const unet = loadUNet(golden('unet/unet') as string);
    const adapter = new IPAdapter(unet.sites(), new Resampler(tiny)).init(new Generator('cpu', 0));
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
      unet.sites(),
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
