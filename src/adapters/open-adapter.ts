/**
 * @file Opens an adapter from its file alone: keys and shapes tell its kind and sizes. Errors about parts that do not go
 * together use the names of the published files (tencent-ailab/IP-Adapter README; h94/IP-Adapter on the Hub).
 */
import { CheckpointError } from '../base/errors.js';
import type { AttentionSite } from '../models/layers/attention-site.js';
import { tidy } from '../torch/index.js';
import { readAdapter, trainedWith } from './adapter-file.js';
import type { TrainedWith } from './adapter-metadata.js';
import type { ImageEncoderSource } from './image-encoder.js';
import { IPAdapter } from './ip-adapter.js';
import type { AdapterKind, ImageFeature } from './kind.js';
import { type AdapterDescription, describeAdapter, families, kinds } from './kinds.js';

/** Encoders that published adapters use, with the widths of their features. */
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

/** An adapter with its kind and file. */
export interface OpenedAdapter {
  module: IPAdapter;
  kind: AdapterKind;
  file: string;
  /** What it was trained with, as far as the file says. */
  trained?: TrainedWith;
}

/**
 * Returns the adapter of a file; its weights are float32 copies.
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
  return { module, kind, file: path, trained: trainedWith(path) };
}

/** Returns a warning where an adapter was trained with another clip skip; none where its file does not say. */
export function clipSkipWarnings(file: string, trained: number | undefined, clipSkip: number): string[] {
  return trained === undefined || trained === clipSkip
    ? []
    : [`${file} was trained with a clip skip of ${trained}, and --clip-skip (clipSkip) is ${clipSkip}.`];
}

/** Returns the width of the states that a backbone's cross-attention reads. */
export function contextDimOf(sites: readonly AttentionSite[]): number {
  return sites[0]?.to_k.shape[1] ?? 0;
}

/**
 * Checks that an adapter can read image features.
 * @param width of the features
 * @param origin the image encoder's folder, or a file of its features, for errors
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
    `${file} was trained with another image encoder than ${origin}: it reads image features ${embeddingDim} wide, and these are ${width} wide. Give the encoder that it was trained with${known === undefined ? '' : `: ${known.name}`}.`,
  );
}

/**
 * Checks that an adapter was trained with an image encoder.
 * @throws CheckpointError where it was trained with one of another type or width
 */
export function assertEncoderFits(
  adapter: OpenedAdapter,
  { type, widths, folder }: Pick<ImageEncoderSource, 'type' | 'widths' | 'folder'>,
): void {
  const trained = adapter.trained?.imageEncoder;
  if (trained !== undefined && trained !== type)
    throw new CheckpointError(
      `${adapter.file} was trained with an image encoder of type ${trained}, and ${folder} is of type ${type}. Give the encoder that it was trained with.`,
    );
  assertFeaturesFit(adapter, widths[adapter.kind.feature], folder);
}

function family(width: number): string {
  const known = families.get(width);
  const fact = `cross-attention ${width} wide`;
  return known === undefined ? `a model with ${fact}` : `${known} (${fact})`;
}
