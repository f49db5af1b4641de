/**
 * @file Maps the models' parameter names to those of the original Stable Diffusion, the LDM layout (CompVis/stable-diffusion
 * `ldm/modules/diffusionmodules/openaimodel.py` and `model.py`; diffusers `src/diffusers/loaders/single_file_utils.py`).
 */
import type { UNet2DConditionConfig } from '../models/unet/unet-config.js';
import type { AutoencoderKLConfig } from '../models/vae/autoencoder-kl.js';

/**
 * Returns the UNet's LDM names by its diffusers names. LDM numbers the input blocks (the first convolution, then each
 * level's layers and its downsampling) and the output blocks (each level's layers, the last of which contains the
 * upsampling). Within a block, the ResNet block has position 0, followed by the transformer and the upsampling, if any.
 */
export function ldmUNetKeys(keys: Iterable<string>, config: UNet2DConditionConfig): Map<string, string> {
  const { layersPerBlock, upHasAttention } = config;
  const inputStart = starts(layersPerBlock.map((layers) => layers + 1));
  const outputCounts = [...layersPerBlock].reverse().map((layers) => layers + 1);
  const outputStart = starts(outputCounts);

  const rename = (key: string): string => {
    const [, side, block, part, index, rest] = blockParts.exec(key) ?? [];
    if (side === undefined || part === undefined || rest === undefined) return replaceStart(key, unetEnds);
    const inner = part === 'resnets' ? replaceStart(rest, unetResnet) : rest;
    const [i, j] = [Number(block), Number(index)];
    const position = part === 'resnets' ? 0 : 1;
    if (side === 'mid_block') return `middle_block.${part === 'attentions' ? 1 : 2 * j}.${inner}`;
    if (side === 'down_blocks') {
      const start = 1 + (inputStart[i] as number);
      return part === 'downsamplers'
        ? `input_blocks.${start + (layersPerBlock[i] as number)}.0.${inner.replace(/^conv/, 'op')}`
        : `input_blocks.${start + j}.${position}.${inner}`;
    }
    const start = outputStart[i] as number;
    return part === 'upsamplers'
      ? `output_blocks.${start + (outputCounts[i] as number) - 1}.${upHasAttention[i] ? 2 : 1}.${inner}`
      : `output_blocks.${start + j}.${position}.${inner}`;
  };
  return new Map(Array.from(keys, (key) => [key, rename(key)]));
}

/** Returns the VAE's LDM names by its diffusers names. LDM numbers the decoder's levels from the highest resolution as well. */
export function ldmVAEKeys(
  keys: Iterable<string>,
  { blockOutChannels }: AutoencoderKLConfig,
): Map<string, string> {
  const last = blockOutChannels.length - 1;
  const rename = (key: string): string => {
    const [, coder, name = key] = /^(encoder|decoder)\.(.*)$/.exec(key) ?? [];
    if (coder === undefined) return key;
    const [, side, block, part, index, rest] = blockParts.exec(name) ?? [];
    if (side === undefined || part === undefined || rest === undefined)
      return `${coder}.${replaceStart(name, { conv_norm_out: 'norm_out' })}`;
    const isMid = side === 'mid_block';
    if (part === 'attentions') return `${coder}.mid.attn_1.${replaceStart(rest, vaeAttention)}`;
    const inner = part === 'resnets' ? replaceStart(rest, { conv_shortcut: 'nin_shortcut' }) : rest;
    if (isMid) return `${coder}.mid.block_${Number(index) + 1}.${inner}`;
    const level = side === 'down_blocks' ? `down.${block}` : `up.${last - Number(block)}`;
    if (part === 'resnets') return `${coder}.${level}.block.${index}.${inner}`;
    return `${coder}.${level}.${part === 'downsamplers' ? 'downsample' : 'upsample'}.${inner}`;
  };
  return new Map(Array.from(keys, (key) => [key, rename(key)]));
}

const blockParts =
  /^(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)$/;

const unetEnds = {
  conv_in: 'input_blocks.0.0',
  'time_embedding.linear_1': 'time_embed.0',
  'time_embedding.linear_2': 'time_embed.2',
  'add_embedding.linear_1': 'label_emb.0.0',
  'add_embedding.linear_2': 'label_emb.0.2',
  conv_norm_out: 'out.0',
  conv_out: 'out.2',
};

const unetResnet = {
  norm1: 'in_layers.0',
  conv1: 'in_layers.2',
  time_emb_proj: 'emb_layers.1',
  norm2: 'out_layers.0',
  conv2: 'out_layers.3',
  conv_shortcut: 'skip_connection',
};

const vaeAttention = { group_norm: 'norm', to_q: 'q', to_k: 'k', to_v: 'v', 'to_out.0': 'proj_out' };

/** Replaces the first part of a key, if there is a replacement for it. */
function replaceStart(key: string, replacements: Record<string, string>): string {
  const match = Object.entries(replacements).find(([start]) => key.startsWith(`${start}.`));
  return match === undefined ? key : match[1] + key.slice(match[0].length);
}

/** Returns the start of each of several consecutive runs of these lengths. */
function starts(lengths: readonly number[]): number[] {
  let end = 0;
  return lengths.map((length) => {
    end += length;
    return end - length;
  });
}
