/**
 * @file Which IP-Adapter a file holds, told from its keys and shapes (the variants of tencent-ailab/IP-Adapter
 * ip_adapter/ip_adapter.py and ip_adapter_faceid.py).
 */
import type { Tensor } from '../torch/index.js';

/** Stable Diffusion families, by the width of what their cross-attention reads. */
export const families = new Map([
  [768, 'Stable Diffusion 1.x'],
  [1024, 'Stable Diffusion 2.x'],
  [2048, 'Stable Diffusion XL'],
]);

export interface AdapterKind {
  variant: 'plus' | 'base' | 'full' | 'faceid' | 'faceid-plus' | 'unknown';
  /** In words, for people. */
  title: string;
  /** Image tokens; undefined where the file does not say (`full` makes one for each of the encoder's). */
  numTokens?: number;
  /** Width of the image features that go in. */
  embeddingDim?: number;
  /** Width of the tokens that come out: the UNet's cross_attention_dim. */
  crossAttentionDim?: number;
  /** Numbers in the keys `ip_adapter.N.`, in order. */
  layers: number[];
}

/** @param shapes the official keys, flat: `image_proj.latents`, `ip_adapter.1.to_k_ip.weight`, … */
export function adapterKind(tensors: ReadonlyMap<string, Tensor>): AdapterKind {
  const shape = (key: string): readonly number[] | undefined => tensors.get(`image_proj.${key}`)?.shape;
  const layers = [
    ...new Set([...tensors.keys()].flatMap((key) => /^ip_adapter\.(\d+)\./.exec(key)?.[1] ?? [])),
  ]
    .map(Number)
    .sort((a, b) => a - b);

  const latents = shape('latents');
  if (latents !== undefined)
    return {
      variant: 'plus',
      title: 'IP-Adapter Plus',
      numTokens: latents[1],
      embeddingDim: shape('proj_in.weight')?.[1],
      crossAttentionDim: shape('proj_out.weight')?.[0],
      layers,
    };
  if ([...tensors.keys()].some((key) => key.startsWith('image_proj.perceiver_resampler.')))
    return { variant: 'faceid-plus', title: 'IP-Adapter FaceID Plus', layers };
  const projection = shape('proj.weight');
  const norm = shape('norm.weight');
  if (projection !== undefined && norm !== undefined)
    return {
      variant: 'base',
      title: 'IP-Adapter (base)',
      numTokens: (projection[0] as number) / (norm[0] as number),
      embeddingDim: projection[1],
      crossAttentionDim: norm[0],
      layers,
    };
  const first = shape('proj.0.weight');
  const second = shape('proj.2.weight');
  if (first !== undefined && second !== undefined && norm !== undefined)
    return {
      variant: 'faceid',
      title: 'IP-Adapter FaceID',
      numTokens: (second[0] as number) / (norm[0] as number),
      embeddingDim: first[1],
      crossAttentionDim: norm[0],
      layers,
    };
  if (first !== undefined && second !== undefined)
    return {
      variant: 'full',
      title: 'IP-Adapter Full',
      embeddingDim: first[1],
      crossAttentionDim: second[0],
      layers,
    };
  return { variant: 'unknown', title: 'no IP-Adapter', layers };
}
