/**
 * @file The kind of `ip-adapter-plus_sd15`, `ip-adapter-plus-face_sd15` and the SDXL files of the same names: a
 * Resampler's tokens from the image encoder's hidden states.
 */
import { CheckpointError } from '../base/errors.js';
import type { AdapterKind, ProjectionShapes } from './kind.js';
import { Resampler, type ResamplerConfig } from './resampler.js';

/** Every published Resampler has heads of this width; shapes cannot tell their number otherwise. */
const dimHead = 64;

/**
 * The sizes of the published files: for SDXL 1280 wide inside with 20 heads; for SD 1.x and 2.x as wide as the backbone's
 * context with 12 heads, which the original and the programs that load its files take for granted. A smaller model gets
 * fewer heads, of its own width together.
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
  const depths = [...shapes.keys()].map((key) => Number(/^layers\.(\d+)\./.exec(key)?.[1] ?? -1));
  const dim = size('latents', 2);
  return {
    dim,
    depth: Math.max(...depths) + 1,
    dimHead,
    heads: size('layers.0.0.to_q.weight', 0) / dimHead,
    numQueries: size('latents', 1),
    embeddingDim: size('proj_in.weight', 1),
    outputDim: size('proj_out.weight', 0),
    ffMult: size('layers.0.1.1.weight', 0) / dim,
  };
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
