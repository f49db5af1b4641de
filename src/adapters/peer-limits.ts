/**
 * @file What other programs take for granted about adapters, and cannot load otherwise: ComfyUI_IPAdapter_plus
 * (IPAdapterPlus.py, `ipadapter_execute` and `IPAdapter`) and diffusers (loaders/unet.py,
 * `_convert_ip_adapter_image_proj_to_diffusers`).
 */
import type { Tensor } from '../torch/index.js';
import { type AdapterDescription, describeAdapter } from './kinds.js';
import { depthOf } from './plus.js';

interface Limit {
  /** Such as 'image tokens'. */
  what: string;
  value: number | undefined;
  /** What each program expects. */
  comfyUI: number;
  diffusers?: number;
}

/**
 * Returns a sentence for each program that cannot load an adapter.
 * @param tensors of the adapter by the official keys
 */
export function peerLimits(tensors: ReadonlyMap<string, Tensor>): string[] {
  const description = describeAdapter(tensors);
  if (description === null) return [];
  const limits = limitsOf(description);
  return (['comfyUI', 'diffusers'] as const).flatMap((program) => {
    const exceeded = limits.filter(
      ({ value, [program]: expected }) => expected !== undefined && value !== expected,
    );
    if (exceeded.length === 0) return [];
    const reasons = exceeded.map(
      ({ what, value, [program]: expected }) => `it expects ${expected} ${what}, and there are ${value}`,
    );
    const name = program === 'comfyUI' ? 'ComfyUI (ComfyUI_IPAdapter_plus)' : 'diffusers';
    return [`${name} cannot load this adapter: ${reasons.join('; ')}`];
  });
}

function limitsOf({ kind, sizes, shapes }: AdapterDescription): Limit[] {
  if (kind.name === 'base')
    return [{ what: 'image tokens', value: sizes.numTokens, comfyUI: 4, diffusers: 4 }];
  const isSDXL = sizes.crossAttentionDim === 2048;
  if (kind.name === 'full-face' && isSDXL)
    return [{ what: 'channels of the image tokens', value: sizes.crossAttentionDim, comfyUI: 1280 }];
  if (kind.name !== 'plus') return [];
  return [
    { what: 'image tokens', value: sizes.numTokens, comfyUI: 16 },
    { what: 'layers of the Resampler', value: depthOf(shapes), comfyUI: 4, diffusers: 4 },
    {
      what: 'attention heads of 64',
      value: (shapes.get('layers.0.0.to_q.weight')?.[0] ?? 0) / 64,
      comfyUI: isSDXL ? 20 : 12,
    },
    {
      what: 'channels inside the Resampler',
      value: shapes.get('latents')?.[2],
      comfyUI: isSDXL ? 1280 : (sizes.crossAttentionDim ?? 0),
    },
  ];
}
