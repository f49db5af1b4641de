/** @file Parses the UNet's config.json, with upstream's defaults (diffusers `src/diffusers/models/unet_2d_condition.py`). */
import { ConfigReader, MAX_LAYERS } from '../../nn/model-config.js';

const MAX_KERNEL = 31;
const downBlockTypes = ['CrossAttnDownBlock2D', 'DownBlock2D'] as const;
const upBlockTypes = ['UpBlock2D', 'CrossAttnUpBlock2D'] as const;

export interface UNet2DConditionConfig {
  inChannels: number;
  outChannels: number;
  convInKernel: number;
  convOutKernel: number;
  /** From the highest resolution to the lowest, like all lists here. */
  blockOutChannels: readonly number[];
  downHasAttention: readonly boolean[];
  /** In the order of the up blocks: from the lowest resolution to the highest. */
  upHasAttention: readonly boolean[];
  midHasAttention: boolean;
  layersPerBlock: readonly number[];
  transformerLayersPerBlock: readonly number[];
  heads: readonly number[];
  crossAttentionDim: readonly number[];
  onlyCrossAttention: readonly boolean[];
  useLinearProjection: boolean;
  upcastAttention: boolean;
  downsamplePadding: number;
  groups: number;
  eps: number;
  flipSinToCos: boolean;
  freqShift: number;
  timeEmbedDim: number;
  /** The added conditioning of SDXL: pooled text and image sizes; null for SD 1.x and 2.x. */
  textTime: { timeDim: number; inDim: number } | null;
}

/**
 * Checks a config and returns the settings of the network.
 * @param json the parsed config.json of a UNet2DConditionModel
 * @param where its path, for errors
 * @throws ConfigError for a value that is not supported, and for an unknown key
 */
export function parseUNetConfig(json: unknown, where: string): UNet2DConditionConfig {
  const reader = new ConfigReader(json, where);
  const blockOutChannels = reader.counts('block_out_channels', [320, 640, 1280, 1280]);
  const blocks = blockOutChannels.length;
  const defaultDown = [
    ...Array.from({ length: 3 }, () => 'CrossAttnDownBlock2D' as const),
    'DownBlock2D' as const,
  ];
  const defaultUp = ['UpBlock2D' as const, ...Array.from({ length: 3 }, () => 'CrossAttnUpBlock2D' as const)];
  const down = reader.names('down_block_types', defaultDown, downBlockTypes, blocks);
  const up = reader.names('up_block_types', defaultUp, upBlockTypes, blocks);

  // attention_head_dim is the number of heads: a mistake in upstream's name that published files keep.
  const heads = reader.countPerBlock('attention_head_dim', 8, blocks);
  const hasAttention = blockOutChannels.map(
    (_, i) => down[i] !== 'DownBlock2D' || up[blocks - 1 - i] !== 'UpBlock2D' || i === blocks - 1,
  );
  const divides = blockOutChannels.every(
    (channels, i) => !hasAttention[i] || channels % (heads[i] ?? 1) === 0,
  );
  reader.require(
    divides,
    'attention_head_dim',
    `numbers of heads that divide block_out_channels [${blockOutChannels.join(', ')}]`,
  );
  const groups = reader.count('norm_num_groups', 32);
  reader.require(
    blockOutChannels.every((channels) => channels % groups === 0),
    'norm_num_groups',
    `a number that divides block_out_channels [${blockOutChannels.join(', ')}]`,
  );

  const addition = reader.oneOf('addition_embed_type', null, [null, 'text_time']);
  const config: UNet2DConditionConfig = {
    inChannels: reader.count('in_channels', 4),
    outChannels: reader.count('out_channels', 4),
    convInKernel: reader.count('conv_in_kernel', 3, MAX_KERNEL),
    convOutKernel: reader.count('conv_out_kernel', 3, MAX_KERNEL),
    blockOutChannels,
    downHasAttention: down.map((type) => type === 'CrossAttnDownBlock2D'),
    upHasAttention: up.map((type) => type === 'CrossAttnUpBlock2D'),
    midHasAttention: true,
    layersPerBlock: reader.countPerBlock('layers_per_block', 2, blocks, MAX_LAYERS),
    transformerLayersPerBlock: reader.countPerBlock('transformer_layers_per_block', 1, blocks, MAX_LAYERS),
    heads,
    crossAttentionDim: reader.countPerBlock('cross_attention_dim', 1280, blocks),
    onlyCrossAttention: reader.flagPerBlock('only_cross_attention', false, blocks),
    useLinearProjection: reader.flag('use_linear_projection', false),
    upcastAttention: reader.flag('upcast_attention', false),
    downsamplePadding: reader.oneOf('downsample_padding', 1, [0, 1]),
    groups,
    eps: reader.number('norm_eps', 1e-5),
    flipSinToCos: reader.flag('flip_sin_to_cos', true),
    freqShift: reader.number('freq_shift', 0),
    timeEmbedDim: (blockOutChannels[0] ?? 0) * 4,
    textTime:
      addition === null
        ? null
        : {
            timeDim: reader.count('addition_time_embed_dim'),
            inDim: reader.count('projection_class_embeddings_input_dim'),
          },
  };
  if (addition === null) reader.ignore('addition_time_embed_dim', 'projection_class_embeddings_input_dim');
  reader.oneOf('act_fn', 'silu', ['silu', 'swish']);
  reader.only({
    attention_type: 'default',
    center_input_sample: false,
    class_embed_type: null,
    class_embeddings_concat: false,
    cross_attention_norm: null,
    dual_cross_attention: false,
    encoder_hid_dim: null,
    encoder_hid_dim_type: null,
    mid_block_scale_factor: 1,
    mid_block_type: 'UNetMidBlock2DCrossAttn',
    num_attention_heads: null,
    num_class_embeds: null,
    resnet_out_scale_factor: 1,
    resnet_skip_time_act: false,
    resnet_time_scale_shift: 'default',
    reverse_transformer_layers_per_block: null,
    time_cond_proj_dim: null,
    time_embedding_act_fn: null,
    time_embedding_dim: null,
    time_embedding_type: 'positional',
    timestep_post_act: null,
  });
  // The UNet is frozen, so dropout is off; the other keys concern block and embedding types that are refused above.
  reader.ignore('sample_size', 'dropout', 'mid_block_only_cross_attention', 'addition_embed_type_num_heads');
  reader.finish();
  return config;
}
