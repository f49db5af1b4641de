/**
 * @file The metadata of an adapter's `.safetensors` file: the keys of ModelSpec 1.0.0 (github.com/Stability-AI/ModelSpec),
 * which other tools show, and ours, `ip_adapter.*`. All but what it was trained with is told by the tensors.
 */
import { readFileSync } from 'node:fs';
import type { Tensor } from '../torch/index.js';
import { describeAdapter, families } from './kinds.js';

/** ModelSpec's names of the families, by the width of what their cross-attention reads. */
const architectures = new Map([
  [768, 'stable-diffusion-v1'],
  [1024, 'stable-diffusion-v2'],
  [2048, 'stable-diffusion-xl-v1-base'],
]);

const clipSkipKey = 'ip_adapter.clip_skip';
const imageEncoderKey = 'ip_adapter.image_encoder';

/** What an adapter was trained with, as far as it is known. */
export interface TrainedWith {
  clipSkip?: number | undefined;
  /** The type of its image encoder: see `ImageEncoderSource.type`. */
  imageEncoder?: string | undefined;
}

/**
 * Returns the metadata of a file with these tensors, by the official keys.
 */
export function adapterMetadata(
  tensors: ReadonlyMap<string, Tensor>,
  { clipSkip, imageEncoder }: TrainedWith = {},
): Record<string, string> {
  // Loaders of PyTorch files look for this mark.
  const format = { format: 'pt' };
  const description = describeAdapter(tensors);
  if (description === null) return format;
  const { kind, sizes } = description;
  const { numTokens, embeddingDim, crossAttentionDim } = sizes;
  const family = families.get(crossAttentionDim ?? 0);
  const sizeKeys = {
    'ip_adapter.num_tokens': numTokens,
    'ip_adapter.image_encoder_width': embeddingDim,
    'ip_adapter.cross_attention_dim': crossAttentionDim,
    'ip_adapter.family': family,
    [clipSkipKey]: clipSkip,
    [imageEncoderKey]: imageEncoder,
  };
  const known = Object.entries(sizeKeys).filter(([, value]) => value !== undefined);
  return {
    ...format,
    'modelspec.sai_model_spec': '1.0.0',
    'modelspec.architecture': `${architectures.get(crossAttentionDim ?? 0) ?? 'stable-diffusion'}/ip-adapter`,
    'modelspec.implementation': 'https://github.com/tencent-ailab/IP-Adapter',
    'modelspec.title': family === undefined ? kind.title : `${kind.title} for ${family}`,
    'ip_adapter.version': packageVersion(),
    'ip_adapter.kind': kind.name,
    ...Object.fromEntries(known.map(([key, value]) => [key, String(value)])),
  };
}

/** Returns what an adapter was trained with, by its file's metadata. */
export function trainedWithOf(metadata: Readonly<Record<string, string>>): TrainedWith {
  const clipSkip = metadata[clipSkipKey];
  const isNumber = clipSkip !== undefined && /^\d+$/.test(clipSkip);
  return { clipSkip: isNumber ? Number(clipSkip) : undefined, imageEncoder: metadata[imageEncoderKey] };
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
