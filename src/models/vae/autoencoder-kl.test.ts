import { describe, expect, it } from 'vitest';
import { expectAllclose, modelCases, recorded, target } from '../../../test/golden.js';
import { ConfigError } from '../../base/errors.js';
import { Generator, memoryStats, noGrad, randn, tidy, zeros } from '../../torch/index.js';
import { loadVAE } from '../../weights/load.js';
import { AutoencoderKL, parseVAEConfig, sampleLatents } from './autoencoder-kl.js';

// The published SD 1.5 config, which omits the defaults of its time.
const sd15 = {
  _class_name: 'AutoencoderKL',
  _diffusers_version: '0.6.0',
  act_fn: 'silu',
  block_out_channels: [128, 256, 512, 512],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
  in_channels: 3,
  latent_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
  out_channels: 3,
  sample_size: 512,
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
};
const build = (json: object) => new AutoencoderKL(parseVAEConfig(json, 'config.json'));

describe('AutoencoderKL, as the original computes it', () => {
  const cases = modelCases('vae');
  it('has recorded cases', () => expect(cases.length).toBeGreaterThan(0));

  it.each(cases)('$name', (one) => {
    using _ = noGrad();
    const vae = loadVAE(one.folder, target);
    const distribution = vae.encode(recorded(one, 'image'));
    for (const key of ['mean', 'logvar', 'std'] as const)
      expectAllclose(distribution[key], recorded(one, key), 2e-5);
    const sample = sampleLatents(distribution, recorded(one, 'eps'));
    expectAllclose(sample, recorded(one, 'sample'), 2e-5);
    expectAllclose(vae.decode(recorded(one, 'z')), recorded(one, 'decoded'), 2e-5);
  });
});

describe('AutoencoderKL', () => {
  it('has as many parameters as the published SD 1.5, whose scaling factor is the default', () => {
    const vae = build(sd15);
    expect(vae.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(83_653_863);
    expect(vae.config.scalingFactor).toBe(0.18215);
  });

  it('clamps logvar to its range', () => {
    using _ = noGrad();
    const [one] = modelCases('vae') as [ReturnType<typeof modelCases>[number]];
    const vae = loadVAE(one.folder, target);
    const { logvar } = vae.encode(recorded(one, 'image').mul(1e6));
    expect(logvar.max().item()).toBeLessThanOrEqual(20);
    expect(logvar.min().item()).toBeGreaterThanOrEqual(-30);
    vae.quant_conv.bias?.add_(1e6);
    expect(vae.encode(recorded(one, 'image')).logvar.min().item()).toBe(20);
  });

  it('reconstructs from the mean, and releases intermediate tensors', () => {
    const [one] = modelCases('vae') as [ReturnType<typeof modelCases>[number]];
    const vae = loadVAE(one.folder, target);
    const image = recorded(one, 'image');
    const initialTensors = memoryStats().liveTensors;
    tidy(() => expectAllclose(vae.call(image), vae.decode(vae.encode(image).mean), 0));
    expect(memoryStats().liveTensors).toBe(initialTensors);
  });

  it('has few of the largest tensors in memory at a time', () => {
    using _ = noGrad();
    const [one] = modelCases('vae') as [ReturnType<typeof modelCases>[number]];
    const vae = loadVAE(one.folder, { device: 'cpu', dtype: 'float32' });
    const image = randn([1, 3, 512, 512]);
    const initialBytes = memoryStats().cpuPeakBytes;
    tidy(() => vae.encode(image));
    // The first block's input; its second ResNet block's input, normalised input and output; two in the convolution.
    const largest = (vae.encoder.conv_in.weight.shape[0] as number) * 512 * 512 * 4;
    expect((memoryStats().cpuPeakBytes - initialBytes) / largest).toBeLessThan(5.5);
  });

  it.each([
    [{ down_block_types: ['AttnDownEncoderBlock2D'] }, /down_block_types/],
    [{ use_quant_conv: false }, /Expected true for use_quant_conv in config.json but received false/],
    [{ latents_mean: [1, 2, 3, 4] }, /latents_mean/],
    [{ surprising: 1 }, /surprising = 1/],
  ])('refuses %j', (change, message) => {
    expect(() => build({ ...sd15, ...change })).toThrow(ConfigError);
    expect(() => build({ ...sd15, ...change })).toThrow(message);
  });
});

describe('sampleLatents', () => {
  it('samples the noise from a generator', () => {
    const mean = zeros([1, 4, 2, 2]).add(3);
    const std = zeros([1, 4, 2, 2]).add(0.5);
    const noise = randn([1, 4, 2, 2], { generator: new Generator('cpu', 5) });
    const sample = sampleLatents({ mean, std }, new Generator('cpu', 5));
    expectAllclose(sample, noise.mul(0.5).add(3), 1e-6);
  });
});
