/**
 * @file An adapter from a file alone: its variant and sizes are told by keys and shapes. What does not go together is
 * said in the words of those who publish the files (tencent-ailab/IP-Adapter README; h94/IP-Adapter on the hub).
 */
import { CheckpointError } from '../errors.js';
import type { UNet2DConditionModel } from '../models/unet-2d-condition.js';
import { type Tensor, tidy } from '../torch/index.js';
import { readAdapter } from './adapter-file.js';
import { type AdapterKind, adapterKind } from './adapter-kind.js';
import { IPAdapter } from './ip-adapter.js';
import type { ResamplerConfig } from './resampler.js';

/** Stable Diffusion families, by the width of what their cross-attention reads. */
const families = new Map([
  [768, 'Stable Diffusion 1.x'],
  [1024, 'Stable Diffusion 2.x'],
  [2048, 'Stable Diffusion XL'],
]);

/** The encoders that adapters are published with, by the width of their hidden states. */
const encoders = new Map([
  [1024, 'CLIP ViT-L/14'],
  [1280, 'OpenCLIP ViT-H/14, the folder models/image_encoder of h94/IP-Adapter'],
  [1664, 'OpenCLIP ViT-bigG/14, the folder sdxl_models/image_encoder of h94/IP-Adapter'],
]);

/** Every published Resampler has heads of this width; their number cannot be told from shapes otherwise. */
const dimHead = 64;

/** An adapter and the file it is from, for errors. */
export interface OpenedAdapter {
  module: IPAdapter;
  file: string;
}

/**
 * The IP-Adapter Plus of a file, as float32 copies, not attached.
 * @param path `.safetensors` or `.bin`
 * @throws CheckpointError where the file is no IP-Adapter Plus, or one for another Stable Diffusion
 */
export function openAdapter(path: string, unet: UNet2DConditionModel): OpenedAdapter {
  const tensors = readAdapter(path);
  const kind = adapterKind(tensors);
  if (kind.variant !== 'plus')
    throw new CheckpointError(
      `Expected an IP-Adapter Plus in ${path} but it is ${kind.title}, which is not supported yet; use an ip-adapter-plus file, such as ip-adapter-plus_sd15.safetensors.`,
    );
  const own = unet.config.crossAttentionDim[0] as number;
  if (kind.crossAttentionDim !== own)
    throw new CheckpointError(
      `${path} is for ${family(kind.crossAttentionDim)} and the model is ${family(own)}; take an adapter and a model of the same family.`,
    );
  const module = new IPAdapter(unet, resamplerConfig(tensors, kind, path));
  const copies = tidy(
    () => new Map(Array.from(tensors, ([key, value]) => [key, value.to('float32').clone()])),
  );
  for (const mapped of tensors.values()) mapped.dispose();
  module.loadStateDict(copies, path);
  return { module, file: path };
}

/**
 * @param width of an image encoder's hidden states
 * @param origin the encoder's folder, or a file of its features
 * @throws CheckpointError where the adapter was trained with another image encoder
 */
export function assertFeaturesFit({ module, file }: OpenedAdapter, width: number, origin: string): void {
  const { embeddingDim } = module.image_proj.config;
  if (embeddingDim === width) return;
  throw new CheckpointError(
    `${file} was trained with another image encoder than ${origin}: it takes image features ${embeddingDim} wide, and these are ${width} wide. ${remedy(embeddingDim)}`,
  );
}

function remedy(width: number): string {
  const known = encoders.get(width);
  return `Give the encoder that it was trained with${known === undefined ? '' : `: ${known}`}.`;
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
