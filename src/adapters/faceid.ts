/**
 * @file The FaceID kinds (tencent-ailab/IP-Adapter ip_adapter/ip_adapter_faceid.py). They need a face recognition model in
 * place of CLIP, and a LoRA in every attention. They are not supported, but detected, so that errors can name them.
 */
import type { AdapterKind } from './kind.js';

export const faceIdPlus: AdapterKind = {
  name: 'faceid-plus',
  title: 'IP-Adapter FaceID Plus',
  feature: 'pooled',
  nullImage: 'zero-feature',
  detect: (shapes) => [...shapes.keys()].some((key) => key.startsWith('perceiver_resampler.')),
  sizes: () => ({}),
  projection: null,
};

export const faceId: AdapterKind = {
  name: 'faceid',
  title: 'IP-Adapter FaceID',
  feature: 'pooled',
  nullImage: 'zero-feature',
  detect: (shapes) => shapes.has('proj.0.weight') && shapes.has('proj.2.weight') && shapes.has('norm.weight'),
  sizes: (shapes) => {
    const [, embeddingDim] = shapes.get('proj.0.weight') ?? [];
    const [tokensByWidth = 0] = shapes.get('proj.2.weight') ?? [];
    const [crossAttentionDim = 1] = shapes.get('norm.weight') ?? [];
    return { embeddingDim, crossAttentionDim, numTokens: tokensByWidth / crossAttentionDim };
  },
  projection: null,
};
