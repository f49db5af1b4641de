/**
 * @file The plus kind, `ip-adapter-plus_sd15`, `ip-adapter-plus-face_sd15` and the SDXL files of the same names: a Resampler
 * makes image tokens from the hidden states of the image encoder.
 */
import { CheckpointError } from '../base/errors.js';
import type { AdapterKind, ProjectionShapes } from './kind.js';
import { Resampler, type ResamplerConfig } from './resampler.js';

/** The width of a head in every published Resampler. Shapes alone do not determine the number of heads. */
const dimHead = 64;

/**
 * Returns the sizes of a new Resampler, as those of the published files: SDXL has a width of 1280 and 20 heads, SD 1.x and
 * 2.x have the width of the backbone's context and 12 heads. The original code and programs that load its files rely on 12
 * heads. A smaller model gets fewer heads, together as wide as its context.
 */
function configFor(embeddingDim: number, crossAttentionDim: number, numQueries: number): ResamplerConfig {
  const isSDXL = crossAttentionDim === 2048;
  const dim = isSDXL ? 1280 : crossAttentionDim;
  const heads = Math.min(isSDXL ? 20 : 12, Math.max(1, Math.round(dim / dimHead)));
  return {
    ...{ dim, depth: 4, dimHead, heads, numQueries, embeddingDim },
    ...{ outputDim: crossAttentionDim, ffMult: 4 },
  };
}

function configOf(shapes: ProjectionShapes, file: string): ResamplerConfig {
  const size = (key: string, dim: number): number => {
    const value = shapes.get(key)?.[dim];
    if (value === undefined)
      throw new CheckpointError(`image_proj.${key} is missing in ${file}: the file is incomplete.`);
    return value;
  };
  const dim = size('latents', 2);
  return {
    dim,
    depth: depthOf(shapes),
    dimHead,
    heads: size('layers.0.0.to_q.weight', 0) / dimHead,
    numQueries: size('latents', 1),
    embeddingDim: size('proj_in.weight', 1),
    outputDim: size('proj_out.weight', 0),
    ffMult: size('layers.0.1.1.weight', 0) / dim,
  };
}

/** Returns the number of a Resampler's layers, by the shapes of its tensors. */
export function depthOf(shapes: ReadonlyMap<string, readonly number[]>): number {
  const depths = [...shapes.keys()].map((key) => Number(/^layers\.(\d+)\./.exec(key)?.[1] ?? -1));
  return Math.max(...depths) + 1;
}

export const plus: AdapterKind = {
  name: 'plus',
  title: 'IP-Adapter Plus',
  feature: 'tokens',
  nullImage: 'zero-pixels',
  detect: (shapes) => shapes.has('latents'),
  sizes: (shapes) => ({
    numTokens: shapes.get('latents')?.[1],
    embeddingDim: shapes.get('proj_in.weight')?.[1],
    crossAttentionDim: shapes.get('proj_out.weight')?.[0],
  }),
  projection: {
    defaultTokens: 16,
    create: ({ embeddingDim, crossAttentionDim, numTokens }) =>
      new Resampler(configFor(embeddingDim, crossAttentionDim, numTokens)),
    open: (shapes, file) => new Resampler(configOf(shapes, file)),
  },
};
