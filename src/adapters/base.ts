/**
 * @file The base kind, `ip-adapter_sd15` and `ip-adapter_sdxl`: four image tokens from the pooled image embedding
 * (tencent-ailab/IP-Adapter ip_adapter/ip_adapter.py). Fields are named as the keys of the official files.
 */
import { initParameters } from '../nn/init.js';
import { LayerNorm, Linear } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import type { Generator, Tensor } from '../torch/index.js';
import type { AdapterKind, ImageProjection, ProjectionShapes, ProjectionSizes } from './kind.js';

/** Projects an image embedding [batch, embeddingDim] to image tokens [batch, numTokens, crossAttentionDim]. */
export class ImageProjModel extends Module<[imageEmbeds: Tensor]> implements ImageProjection {
  proj: Linear;
  norm: LayerNorm;
  readonly embeddingDim: number;
  readonly numTokens: number;
  readonly crossAttentionDim: number;

  constructor({ embeddingDim, numTokens, crossAttentionDim }: ProjectionSizes) {
    super();
    this.proj = new Linear(embeddingDim, numTokens * crossAttentionDim);
    this.norm = new LayerNorm(crossAttentionDim);
    this.embeddingDim = embeddingDim;
    this.numTokens = numTokens;
    this.crossAttentionDim = crossAttentionDim;
  }

  init(generator: Generator): this {
    initParameters(this, generator);
    return this;
  }

  protected override forward(imageEmbeds: Tensor): Tensor {
    return this.norm.call(this.proj.call(imageEmbeds).reshape(-1, this.numTokens, this.crossAttentionDim));
  }
}

function sizesOf(shapes: ProjectionShapes): ProjectionSizes {
  const [tokensByWidth = 0, embeddingDim = 0] = shapes.get('proj.weight') ?? [];
  const [crossAttentionDim = 1] = shapes.get('norm.weight') ?? [];
  return { numTokens: tokensByWidth / crossAttentionDim, embeddingDim, crossAttentionDim };
}

export const base: AdapterKind = {
  name: 'base',
  title: 'IP-Adapter (base)',
  feature: 'pooled',
  nullImage: 'zero-feature',
  detect: (shapes) => shapes.has('proj.weight') && shapes.has('norm.weight'),
  sizes: sizesOf,
  projection: {
    defaultTokens: 4,
    create: (sizes) => new ImageProjModel(sizes),
    open: (shapes) => new ImageProjModel(sizesOf(shapes)),
  },
};
