/** @file The interface of adapter kinds. Each kind is one file in this folder, listed in kinds.ts. */
import type { Module } from '../nn/module.js';
import type { TrainableKind } from '../options/train-options.js';
import type { Generator, Tensor } from '../torch/index.js';

/**
 * The outputs of an image encoder: 'tokens' are its penultimate hidden states [batch, n, width], 'pooled' is the projected
 * embedding [batch, width] that CLIP compares with texts.
 */
export type ImageFeature = 'tokens' | 'pooled';

/** Turns image features into image tokens [batch, numTokens, crossAttentionDim]. */
export interface ImageProjection extends Module<[imageFeatures: Tensor]> {
  /** The width of the image features. */
  readonly embeddingDim: number;
  /** The number of image tokens; null where each hidden state becomes one. */
  readonly numTokens: number | null;
  /** The width of the image tokens: the backbone's cross_attention_dim. */
  readonly crossAttentionDim: number;
  /** Fills in PyTorch's default random values. */
  init(generator: Generator): this;
}

/** The sizes of a projection. */
export interface ProjectionSizes {
  /** The width of the encoder output that the kind reads. */
  embeddingDim: number;
  crossAttentionDim: number;
  /** The number of image tokens; ignored by a kind that makes one of each hidden state. */
  numTokens: number;
}

export interface AdapterKind {
  name: TrainableKind | 'faceid' | 'faceid-plus';
  /** Such as 'IP-Adapter Plus'. */
  title: string;
  /** The output of the image encoder that the kind reads. */
  feature: ImageFeature;
  /**
   * What replaces a dropped image, in training and on the negative side of guidance: pixels that are zero after
   * normalisation, run through the encoder; or features of zeros.
   */
  nullImage: 'zero-pixels' | 'zero-feature';
  /** Returns whether a file is of this kind, by the shapes of its projection (keys without `image_proj.`). */
  detect(shapes: ProjectionShapes): boolean;
  /** Returns the sizes that the shapes determine; the others are undefined. */
  sizes(shapes: ProjectionShapes): Partial<ProjectionSizes>;
  /** Null for a kind that is detected but not supported. */
  projection: {
    /** The number of image tokens in the published files; null where each hidden state becomes one. */
    defaultTokens: number | null;
    /** Returns a new projection without values, built like the published ones of these sizes. */
    create(sizes: ProjectionSizes): ImageProjection;
    /** Returns the projection of a file, without values. @throws CheckpointError where a shape is missing */
    open(shapes: ProjectionShapes, file: string): ImageProjection;
  } | null;
}

/** A kind that can be trained and used. */
export type SupportedKind = AdapterKind & { projection: NonNullable<AdapterKind['projection']> };

export type ProjectionShapes = ReadonlyMap<string, readonly number[]>;
