/**
 * @file An adapter from a file alone: its variant and sizes are told by keys and shapes. What does not go together is
 * said in the words of those who publish the files (tencent-ailab/IP-Adapter README; h94/IP-Adapter on the hub).
 */
import { CheckpointError } from '../base/errors.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { type Tensor, tidy } from '../torch/index.js';
import { readAdapter } from './adapter-file.js';
import { type AdapterKind, adapterKind, families } from './adapter-kind.js';
import { type ImageProjection, ImageProjModel } from './image-projection.js';
import { IPAdapter } from './ip-adapter.js';
import { Resampler, type ResamplerConfig } from './resampler.js';

/** The encoders that adapters are published with, by the width of their hidden states and of their embeddings. */
const encoders = [
  { hidden: 1024, embedding: 768, name: 'CLIP ViT-L/14' },
  {
    hidden: 1280,
    embedding: 1024,
    name: 'OpenCLIP ViT-H/14, the folder models/image_encoder of h94/IP-Adapter',
  },
  {
    hidden: 1664,
    embedding: 1280,
    name: 'OpenCLIP ViT-bigG/14, the folder sdxl_models/image_encoder of h94/IP-Adapter',
  },
];

/** Every published Resampler has heads of this width; their number cannot be told from shapes otherwise. */
const dimHead = 64;

/** An adapter, and what it is and where from, for people. */
export interface OpenedAdapter {
  module: IPAdapter;
  /** Such as 'IP-Adapter Plus'. */
  title: string;
  file: string;
}

/**
 * The adapter of a file, Plus or base, as float32 copies, not attached.
 * @param path `.safetensors` or `.bin`
 * @throws CheckpointError where the file is another variant, or one for another Stable Diffusion
 */
export function openAdapter(path: string, unet: UNet2DConditionModel): OpenedAdapter {
  const tensors = readAdapter(path);
  const kind = adapterKind(tensors);
  const own = unet.config.crossAttentionDim[0] as number;
  const projection = projectionOf(tensors, kind, path);
  if (kind.crossAttentionDim !== own)
    throw new CheckpointError(
      `${path} is for ${family(kind.crossAttentionDim)} and the model is ${family(own)}; take an adapter and a model of the same family.`,
    );
  const module = new IPAdapter(unet, projection);
  const copies = tidy(
    () => new Map(Array.from(tensors, ([key, value]) => [key, value.to('float32').clone()])),
  );
  for (const mapped of tensors.values()) mapped.dispose();
  module.loadStateDict(copies, path);
  return { module, title: kind.title, file: path };
}

function projectionOf(
  tensors: ReadonlyMap<string, Tensor>,
  kind: AdapterKind,
  path: string,
): ImageProjection {
  const { variant, title, numTokens = 0, embeddingDim = 0, crossAttentionDim = 0 } = kind;
  if (variant === 'plus') return new Resampler(resamplerConfig(tensors, kind, path));
  if (variant === 'base') return new ImageProjModel(embeddingDim, numTokens, crossAttentionDim);
  throw new CheckpointError(
    `Expected an IP-Adapter Plus or base in ${path} but it is ${title}, which is not supported yet; use a file such as ip-adapter-plus_sd15.safetensors or ip-adapter_sd15.safetensors.`,
  );
}

/**
 * @param width of the image features that are to go in
 * @param origin the image encoder's folder, or a file of its features
 * @throws CheckpointError where the adapter was trained with another image encoder
 */
export function assertFeaturesFit({ module, file }: OpenedAdapter, width: number, origin: string): void {
  const { embeddingDim, takes } = module.image_proj;
  if (embeddingDim === width) return;
  const known = encoders.find((one) => embeddingDim === (takes === 'embedding' ? one.embedding : one.hidden));
  throw new CheckpointError(
    `${file} was trained with another image encoder than ${origin}: it takes image features ${embeddingDim} wide, and these are ${width} wide. Give the encoder that it was trained with${known === undefined ? '' : `: ${known.name}`}.`,
  );
}

function family(width: number | undefined): string {
  const known = families.get(width ?? 0);
  const fact = `cross-attention ${width} wide`;
  return known === undefined ? `a model with ${fact}` : `${known} (${fact})`;
}

function resamplerConfig(
  tensors: ReadonlyMap<string, Tensor>,
  kind: AdapterKind,
  path: string,
): ResamplerConfig {
  const size = (key: string, dim: number): number => {
    const found = tensors.get(`image_proj.${key}`)?.shape[dim];
    if (found === undefined)
      throw new CheckpointError(
        `Expected image_proj.${key} in ${path} but there is none; is the file complete?`,
      );
    return found;
  };
  const depths = [...tensors.keys()].map((key) =>
    Number(/^image_proj\.layers\.(\d+)\./.exec(key)?.[1] ?? -1),
  );
  const dim = size('latents', 2);
  return {
    dim,
    depth: Math.max(...depths) + 1,
    dimHead,
    heads: size('layers.0.0.to_q.weight', 0) / dimHead,
    numQueries: kind.numTokens as number,
    embeddingDim: size('proj_in.weight', 1),
    outputDim: size('proj_out.weight', 0),
    ffMult: size('layers.0.1.1.weight', 0) / dim,
  };
}
