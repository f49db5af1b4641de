import { describe, expect, it } from 'vitest';
import { sd15, sd21, sdxl } from '../../../test/published-unets.js';
import { ConfigError } from '../../base/errors.js';
import { UNet2DConditionModel } from './unet-2d-condition.js';
import { parseUNetConfig } from './unet-config.js';

const build = (json: object) => new UNet2DConditionModel(parseUNetConfig(json, 'config.json'));

describe('the parameters', () => {
  it('are as many as in the published SD 1.5', () => {
    const parameters = build(sd15).parameters();
    expect(parameters).toHaveLength(686);
    expect(parameters.reduce((sum, { numel }) => sum + numel, 0)).toBe(859_520_964);
  });

  it('are as many as in the published SDXL', () => {
    const parameters = build(sdxl).parameters();
    expect(parameters).toHaveLength(1680);
    expect(parameters.reduce((sum, { numel }) => sum + numel, 0)).toBe(2_567_463_684);
  });

  it('are as many as in the published SD 2.1', () => {
    const parameters = build(sd21).parameters();
    expect(parameters).toHaveLength(686);
    expect(parameters.reduce((sum, { numel }) => sum + numel, 0)).toBe(865_910_724);
  });
});

describe('a config that is not supported', () => {
  it.each([
    [{ class_embed_type: 'timestep' }, /class_embed_type.*"timestep"/],
    [{ time_cond_proj_dim: 256 }, /Expected null for time_cond_proj_dim in config.json but received 256/],
    [
      { down_block_types: ['KDownBlock2D', 'DownBlock2D', 'DownBlock2D', 'DownBlock2D'] },
      /each "CrossAttnDownBlock2D" or "DownBlock2D" for down_block_types.*KDownBlock2D/,
    ],
    [{ up_block_types: ['UpBlock2D'] }, /a list of 4/],
    [{ attention_head_dim: [8, 8] }, /attention_head_dim/],
    [{ attention_head_dim: 7 }, /attention_head_dim/],
    [{ num_attention_heads: 8 }, /num_attention_heads/],
    [{ norm_num_groups: null }, /norm_num_groups/],
    [{ addition_embed_type: 'text_time' }, /addition_time_embed_dim/],
    [{ addition_embed_type: 'image' }, /null or "text_time" for addition_embed_type/],
    [{ resnet_time_scale_shift: 'scale_shift' }, /resnet_time_scale_shift/],
    [
      {
        transformer_layers_per_block: [
          [1, 1],
          [1, 1],
          [1, 1],
          [1, 1],
        ],
      },
      /transformer_layers_per_block/,
    ],
    [{ a_new_key: true }, /a_new_key = true/],
    // All of these would be built before the weights show that they are wrong.
    [{ layers_per_block: 1e9 }, /from 1 to 128, or a list of 4 of them for layers_per_block/],
    [{ transformer_layers_per_block: [1, 1, 1, 129] }, /transformer_layers_per_block/],
    [{ conv_in_kernel: 65536 }, /from 1 to 31 for conv_in_kernel/],
    [{ cross_attention_dim: 2 ** 53 - 1 }, /from 1 to 65536/],
    [{ block_out_channels: Array(33).fill(32) }, /at most 32 whole numbers/],
  ])('%j is refused', (change, message) => {
    expect(() => build({ ...sd15, ...change })).toThrow(ConfigError);
    expect(() => build({ ...sd15, ...change })).toThrow(message);
  });

  it('ignores private keys and those that are null', () => {
    expect(() => build({ ...sd15, _name_or_path: 'somewhere', a_new_key: null })).not.toThrow();
  });
});
