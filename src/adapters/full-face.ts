/**
 * @file The full-face kind, `ip-adapter-full-face_sd15`: one image token for each hidden state of the image encoder
 * (tencent-ailab/IP-Adapter ip_adapter/ip_adapter.py). Fields are named as the keys of the official file.
 */
import { gelu } from '../nn/functional.js';
import { initParameters } from '../nn/init.js';
import { LayerNorm, Linear } from '../nn/layers.js';
import { Module, Sequential } from '../nn/module.js';
import type { Generator, Tensor } from '../torch/index.js';
import type { AdapterKind, ImageProjection, ProjectionShapes } from './kind.js';

/** Projects every hidden state to an image token: [batch, n, embeddingDim] → [batch, n, crossAttentionDim]. */
export class MLPProjModel extends Module<[imageFeatures: Tensor]> implements ImageProjection {
  proj: Sequential;
  readonly numTokens = null;
  readonly embeddingDim: number;
  readonly crossAttentionDim: number;

  constructor({ embeddingDim, crossAttentionDim }: { embeddingDim: number; crossAttentionDim: number }) {
    super();
    this.proj = new Sequential(
      new Linear(embeddingDim, embeddingDim),
      gelu,
      new Linear(embeddingDim, crossAttentionDim),
      new LayerNorm(crossAttentionDim),
    );
    this.embeddingDim = embeddingDim;
    this.crossAttentionDim = crossAttentionDim;
  }

  init(generator: Generator): this {
    initParameters(this, generator);
    return this;
  }

  protected override forward(imageFeatures: Tensor): Tensor {
    return this.proj.call(imageFeatures);
  }
}

function sizesOf(shapes: ProjectionShapes): { embeddingDim: number; crossAttentionDim: number } {
  const [, embeddingDim = 0] = shapes.get('proj.0.weight') ?? [];
  const [crossAttentionDim = 0] = shapes.get('proj.2.weight') ?? [];
  return { embeddingDim, crossAttentionDim };
}

export const fullFace: AdapterKind = {
  name: 'full-face',
  title: 'IP-Adapter Full Face',
  feature: 'tokens',
  nullImage: 'zero-pixels',
  detect: (shapes) =>
    shapes.has('proj.0.weight') && shapes.has('proj.2.weight') && shapes.has('proj.3.weight'),
  sizes: sizesOf,
  projection: {
    defaultTokens: null,
    create: (sizes) => new MLPProjModel(sizes),
    open: (shapes) => new MLPProjModel(sizesOf(shapes)),
  },
};
