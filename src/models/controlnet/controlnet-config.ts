/** @file Parses a ControlNet's config.json, with upstream's defaults (diffusers `src/diffusers/models/controlnets/controlnet.py`). */
import { ConfigReader } from '../../nn/model-config.js';
import { parseUNetConfig, type UNet2DConditionConfig } from '../unet/unet-config.js';

export interface ControlNetConfig extends UNet2DConditionConfig {
  /** Channels of the conditioning image's embedding, from its resolution to the latents'. */
  conditioningChannels: readonly number[];
  /** Whether it takes the image's colours as blue, green, red. */
  isBGR: boolean;
  /** Whether its residuals are means over all pixels, as in ControlNet shuffle; guess mode is then always on. */
  globalPool: boolean;
}

/** The keys that a UNet does not have, or has with other values. */
const ownKeys = [
  'conditioning_channels',
  'conditioning_embedding_out_channels',
  'controlnet_conditioning_channel_order',
  'global_pool_conditions',
  'mid_block_type',
];

/**
 * Checks a config and returns the settings of the network.
 * @param json the parsed config.json of a ControlNetModel
 * @param where its path, for errors
 * @throws ConfigError for a value that is not supported, and for an unknown key
 */
export function parseControlNetConfig(json: Record<string, unknown>, where: string): ControlNetConfig {
  const isOwn = ([key]: [string, unknown]): boolean => ownKeys.includes(key);
  const entries = Object.entries(json);
  const own = new ConfigReader(Object.fromEntries(entries.filter(isOwn)), where);
  own.only({ conditioning_channels: 3 });
  const settings = {
    conditioningChannels: own.counts('conditioning_embedding_out_channels', [16, 32, 96, 256]),
    isBGR: own.oneOf('controlnet_conditioning_channel_order', 'rgb', ['rgb', 'bgr']) === 'bgr',
    globalPool: own.flag('global_pool_conditions', false),
    midHasAttention:
      own.oneOf('mid_block_type', 'UNetMidBlock2DCrossAttn', [
        'UNetMidBlock2DCrossAttn',
        'UNetMidBlock2D',
      ]) === 'UNetMidBlock2DCrossAttn',
  };
  const shared = Object.fromEntries(entries.filter((entry) => !isOwn(entry)));
  return { ...parseUNetConfig({ ...shared, ...mirrored(shared.down_block_types) }, where), ...settings };
}

/** Returns the up blocks of the UNet that the ControlNet is half of; none where the down blocks are upstream's default. */
function mirrored(down: unknown): { up_block_types?: string[] } {
  if (!Array.isArray(down)) return {};
  return { up_block_types: down.map((type) => String(type).replace('Down', 'Up')).reverse() };
}
