/**
 * @file An adapter from a file alone: its kind and sizes are told by keys and shapes. What does not go together is said
 * in the words of those who publish the files (tencent-ailab/IP-Adapter README; h94/IP-Adapter on the Hub).
 */
import { CheckpointError } from '../base/errors.js';
import type { AttentionSite } from '../models/layers/attention-site.js';
import { tidy } from '../torch/index.js';
import { readAdapter } from './adapter-file.js';
import { IPAdapter } from './ip-adapter.js';
import type { AdapterKind, ImageFeature } from './kind.js';
import { type AdapterDescription, describeAdapter, families, kinds } from './kinds.js';

/** The encoders that adapters are published with, by the width of their features. */
const encoders: (Record<ImageFeature, number> & { name: string })[] = [
  { tokens: 1024, pooled: 768, name: 'CLIP ViT-L/14' },
  {
    tokens: 1280,
    pooled: 1024,
    name: 'OpenCLIP ViT-H/14, the folder models/image_encoder of h94/IP-Adapter',
  },
  {
    tokens: 1664,
    pooled: 1280,
    name: 'OpenCLIP ViT-bigG/14, the folder sdxl_models/image_encoder of h94/IP-Adapter',
  },
];

/** An adapter, what it is and where it is from. */
export interface OpenedAdapter {
  module: IPAdapter;
  kind: AdapterKind;
  file: string;
}

/**
 * Returns the adapter of a file as float32 copies.
 * @param path `.safetensors` or `.bin`
 * @param sites of the backbone that it is for
 * @throws CheckpointError where the file's kind is not supported, or it is for another Stable Diffusion
 */
export function openAdapter(path: string, sites: readonly AttentionSite[]): OpenedAdapter {
  const tensors = readAdapter(path);
  const { kind, shapes } = describeAdapter(tensors) as AdapterDescription;
  if (kind.projection === null) {
    const supported = kinds.filter(({ projection }) => projection !== null).map(({ title }) => title);
    throw new CheckpointError(
      `${path} is an ${kind.title}, which is not supported; supported are ${supported.join(', ')}.`,
    );
  }
  const projection = kind.projection.open(shapes, path);
  const contextDim = contextDimOf(sites);
  if (projection.crossAttentionDim !== contextDim)
    throw new CheckpointError(
      `${path} is for ${family(projection.crossAttentionDim)} and the model is ${family(contextDim)}; take an adapter and a model of the same family.`,
    );
  const module = new IPAdapter(sites, projection);
  const copies = tidy(
    () => new Map(Array.from(tensors, ([key, value]) => [key, value.to('float32').clone()])),
  );
  for (const mapped of tensors.values()) mapped.dispose();
  module.loadStateDict(copies, path);
  return { module, kind, file: path };
}

/** Returns the width of what the sites of a backbone attend to. */
export function contextDimOf(sites: readonly AttentionSite[]): number {
  return sites[0]?.to_k.shape[1] ?? 0;
}

/**
 * @param width of the image features that are to go in
 * @param origin the image encoder's folder, or a file of its features
 * @throws CheckpointError where the adapter was trained with another image encoder
 */
export function assertFeaturesFit(
  { module, kind, file }: OpenedAdapter,
  width: number,
  origin: string,
): void {
  const { embeddingDim } = module.image_proj;
  if (embeddingDim === width) return;
  const known = encoders.find((encoder) => encoder[kind.feature] === embeddingDim);
  throw new CheckpointError(
    `${file} was trained with another image encoder than ${origin}: it takes image features ${embeddingDim} wide, and these are ${width} wide. Give the encoder that it was trained with${known === undefined ? '' : `: ${known.name}`}.`,
  );
}

function family(width: number): string {
  const known = families.get(width);
  const fact = `cross-attention ${width} wide`;
  return known === undefined ? `a model with ${fact}` : `${known} (${fact})`;
}
