/** @file What the kinds of adapter have in common. Each kind is one file beside this one, listed in kinds.ts. */

import type { Module } from '../nn/module.js';
import type { TrainableKind } from '../options/train-options.js';
import type { Generator, Tensor } from '../torch/index.js';

/**
 * What an image encoder says of an image: 'tokens' are its last hidden states but one [batch, n, width], 'pooled' is the
 * embedding [batch, width] that CLIP compares with texts.
 */
export type ImageFeature = 'tokens' | 'pooled';

/** Makes image tokens [batch, numTokens, crossAttentionDim] of image features. */
export interface ImageProjection extends Module<[imageFeatures: Tensor]> {
  /** Width of the features. */
  readonly embeddingDim: number;
  /** Null where there is a token for each of the features'. */
  readonly numTokens: number | null;
  /** Width of the tokens: the backbone's cross_attention_dim. */
  readonly crossAttentionDim: number;
  /** Fills it with PyTorch's default random values. */
  init(generator: Generator): this;
}

/** What a new projection is made for. */
export interface ProjectionSizes {
  /** Width of the feature that the kind reads. */
  embeddingDim: number;
  crossAttentionDim: number;
  /** Image tokens; ignored by a kind that has a token for each of the encoder's. */
  numTokens: number;
}

export interface AdapterKind {
  name: TrainableKind | 'faceid' | 'faceid-plus';
  /** Such as 'IP-Adapter Plus'. */
  title: string;
  /** What it reads of the image encoder. */
  feature: ImageFeature;
  /**
   * What stands for a dropped image, in training and as the negative of guidance: pixels of zero after normalisation,
   * run through the encoder, or features of zero.
   */
  nullImage: 'zero-pixels' | 'zero-feature';
  /** Whether a file is of this kind, by the shapes of its projection (keys without `image_proj.`). */
  detect(shapes: ProjectionShapes): boolean;
  /** The sizes that the shapes tell; undefined for what they do not. */
  sizes(shapes: ProjectionShapes): Partial<ProjectionSizes>;
  /** Null for a kind that is recognised and not supported. */
  projection: {
    /** Image tokens of the published files; null where there is one for each of the encoder's. */
    defaultTokens: number | null;
    /** Returns a new projection without values, as published for such sizes. */
    create(sizes: ProjectionSizes): ImageProjection;
    /** Returns the projection of a file without its values. @throws CheckpointError where a shape is missing */
    open(shapes: ProjectionShapes, file: string): ImageProjection;
  } | null;
}

/** A kind that can be trained and used. */
export type SupportedKind = AdapterKind & { projection: NonNullable<AdapterKind['projection']> };

export type ProjectionShapes = ReadonlyMap<string, readonly number[]>;
