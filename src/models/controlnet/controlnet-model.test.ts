/** A ControlNet as diffusers computes it, recorded (../shared/golden/README-2.md), and the configs that are taken. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../../test/golden.js';
import { noGrad, type Tensor, zeros } from '../../torch/index.js';
import { openControlNetFiles } from '../../weights/controlnet.js';
import { loadUNet } from '../../weights/load.js';
import { sd15 } from '../../weights/sd15.js';
import { sdxl } from '../../weights/sdxl.js';
import { parseControlNetConfig } from './controlnet-config.js';
import { ControlNetModel } from './controlnet-model.js';

const folder = golden('controlnet');

describe.skipIf(folder === null)('controlnet (../shared/golden)', () => {
  const place = folder as string;
  const open = () => {
    const config = JSON.parse(readFileSync(join(place, 'config.json'), 'utf8'));
    const unet = loadUNet(join(place, config.models.unet), target);
    const { load } = openControlNetFiles(join(place, 'controlnet'), unet.config);
    const recorded = readGolden(join(place, 'io.safetensors'));
    return { config, unet, net: load(target), of: (key: string) => recorded.get(`forward.${key}`) as Tensor };
  };

  it('the embedding of the image, the residuals, and the output of the UNet with them', () => {
    const { config, unet, net, of } = open();
    using _ = noGrad();
    const condition = net.embed(of('image'));
    expectAllclose(condition, of('cond_embedding'), 5e-4);
    const inputs = [of('sample'), of('timesteps'), of('encoder_hidden_states')] as const;
    const { down, mid } = net.call(...inputs, condition);
    const scale: number = config.forward_conditioning_scale;
    const residuals = { down: down.map((one) => one.mul(scale)), mid: mid.mul(scale) };
    for (const [i, one] of residuals.down.entries()) expectAllclose(one, of(`down.${i}`), 5e-4);
    expectAllclose(residuals.mid, of('mid'), 5e-4);
    expectAllclose(unet.call(...inputs, undefined, [], residuals), of('unet_output'), 5e-4);
  });

  it('takes the image of a BGR model in reverse, and pools where the config says so', () => {
    const { net, of } = open();
    using _ = noGrad();
    const image = of('image');
    const weights = net.namedParameters();
    const build = (change: object): ControlNetModel => {
      const model = new ControlNetModel({ ...net.config, ...change });
      model.loadStateDict(weights, 'golden');
      return model;
    };
    const [red, green, blue] = image.chunk(3, 1) as [Tensor, Tensor, Tensor];
    const reversed = zeros(image.shape, target);
    for (const [i, one] of [blue, green, red].entries()) reversed.slice(1, i, i + 1).copy_(one);
    expectAllclose(build({ isBGR: true }).embed(reversed), of('cond_embedding'), 5e-4);
    const inputs = [of('sample'), of('timesteps'), of('encoder_hidden_states'), net.embed(image)] as const;
    const { down, mid } = net.call(...inputs);
    const pooled = build({ globalPool: true }).call(...inputs);
    expectAllclose(pooled.mid, mid.mean([2, 3], true), 1e-6);
    expect(pooled.down.map(({ shape }) => shape)).toEqual(
      down.map(({ shape }) => [...shape.slice(0, 2), 1, 1]),
    );
  });
});

describe('parseControlNetConfig', () => {
  it("has diffusers' defaults, and takes the small ControlNets without attention", () => {
    const config = parseControlNetConfig({}, 'config.json');
    expect(config.conditioningChannels).toEqual([16, 32, 96, 256]);
    expect(config.downHasAttention).toEqual([true, true, true, false]);
    const small = parseControlNetConfig(
      {
        down_block_types: Array(3).fill('DownBlock2D'),
        block_out_channels: [320, 640, 1280],
        attention_head_dim: [5, 10, 20],
        mid_block_type: 'UNetMidBlock2D',
      },
      'config.json',
    );
    const keys = [...new ControlNetModel(small).namedParameters().keys()];
    expect(keys.some((key) => key.includes('attentions'))).toBe(false);
    expect(keys.filter((key) => key.startsWith('mid_block.resnets.1.'))).toEqual([]);
  });

  it.each([
    ['Stable Diffusion 1.5', { ...sd15.unet }, 361_279_120],
    ['SDXL', { ...sdxl.unet }, 1_251_014_160],
  ])('has as many parameters as the published ControlNets of %s', (_, { up_block_types, ...json }, count) => {
    const model = new ControlNetModel(parseControlNetConfig(json, 'config.json'));
    expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(count);
  });

  it.each([
    [{ conditioning_channels: 6 }, /3 for conditioning_channels in there .* 6/],
    [{ controlnet_conditioning_channel_order: 'gbr' }, /"rgb" or "bgr"/],
    [{ class_embed_type: 'projection' }, /class_embed_type/],
    [{ control_type: 3 }, /only supported keys in there .*control_type = 3/],
  ])('refuses %j', (json, message) => {
    expect(() => parseControlNetConfig(json, 'there')).toThrow(message);
  });
});
