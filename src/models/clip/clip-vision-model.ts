/**
 * @file CLIP's image encoder with its projection (transformers `src/transformers/models/clip/modeling_clip.py`,
 * CLIPVisionModelWithProjection).
 */
import { Conv2d, Embedding, LayerNorm, Linear } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import { cat, empty, type Tensor, tidy } from '../../torch/index.js';
import { VisionModel } from '../layers/vision-model.js';
import { CLIPEncoder, type CLIPEncoderConfig, readCLIPEncoderConfig } from './clip-encoder.js';

export interface CLIPVisionConfig extends CLIPEncoderConfig {
  channels: number;
  /** Height and width of the images, in pixels. */
  imageSize: number;
  patchSize: number;
  projectionDim: number;
}

/**
 * Reads a CLIPVisionModelWithProjection's config.
 * @param json the parsed config.json
 * @param where its path, for errors
 * @throws ConfigError for an unsupported value or an unknown key
 */
export function parseCLIPVisionConfig(json: unknown, where: string): CLIPVisionConfig {
  const reader = new ConfigReader(json, where);
  const config: CLIPVisionConfig = {
    ...readCLIPEncoderConfig(reader, { hiddenSize: 768, heads: 12, isCausal: false }),
    channels: reader.count('num_channels', 3),
    imageSize: reader.count('image_size', 224),
    patchSize: reader.count('patch_size', 32, 1024),
    projectionDim: reader.count('projection_dim', 512),
  };
  reader.finish();
  return config;
}

/**
 * pixelValues [batch, channels, imageSize, imageSize], normalised with CLIP's mean and std → image embeddings
 * [batch, projectionDim]
 */
export class CLIPVisionModelWithProjection extends VisionModel<CLIPVisionConfig> {
  readonly vision_model: CLIPVisionTransformer;
  readonly visual_projection: Linear;

  constructor(config: CLIPVisionConfig) {
    super(config);
    this.vision_model = new CLIPVisionTransformer(config);
    this.visual_projection = new Linear(config.hiddenSize, config.projectionDim, { bias: false });
  }

  get pooledDim(): number {
    return this.config.projectionDim;
  }

  protected runLayers(pixelValues: Tensor, count: number): Tensor {
    return this.vision_model.call(pixelValues, count);
  }

  pool(lastHiddenState: Tensor): Tensor {
    return tidy(() =>
      this.visual_projection.call(this.vision_model.post_layernorm.call(lastHiddenState.select(1, 0))),
    );
  }
}

/** Pixels → [batch, 1 + patches, hiddenSize], after the first `count` layers */
class CLIPVisionTransformer extends Module<[pixelValues: Tensor, count: number]> {
  readonly embeddings: CLIPVisionEmbeddings;
  /** The spelling of published checkpoints. */
  readonly pre_layrnorm: LayerNorm;
  readonly encoder: CLIPEncoder;
  readonly post_layernorm: LayerNorm;

  constructor(config: CLIPVisionConfig) {
    super();
    this.embeddings = new CLIPVisionEmbeddings(config);
    this.pre_layrnorm = new LayerNorm(config.hiddenSize, config.eps);
    this.encoder = new CLIPEncoder(config);
    this.post_layernorm = new LayerNorm(config.hiddenSize, config.eps);
  }

  protected forward(pixelValues: Tensor, count: number): Tensor {
    return this.encoder.call(this.pre_layrnorm.call(this.embeddings.call(pixelValues)), count);
  }
}

/** Pixels → a class token and a linear projection of each patch, plus position embeddings */
class CLIPVisionEmbeddings extends Module<[pixelValues: Tensor]> {
  class_embedding: Tensor;
  readonly patch_embedding: Conv2d;
  readonly position_embedding: Embedding;

  constructor({ channels, hiddenSize, imageSize, patchSize }: CLIPVisionConfig) {
    super();
    this.class_embedding = empty([hiddenSize], { device: 'meta' });
    this.patch_embedding = new Conv2d(channels, hiddenSize, patchSize, { stride: patchSize, bias: false });
    this.position_embedding = new Embedding(Math.floor(imageSize / patchSize) ** 2 + 1, hiddenSize);
  }

  protected forward(pixelValues: Tensor): Tensor {
    const [batch = 0] = pixelValues.shape;
    const patches = this.patch_embedding.call(pixelValues).flatten(2).transpose(1, 2);
    const token = this.class_embedding.expand(batch, 1, -1);
    return cat([token, patches], 1).add(this.position_embedding.weight);
  }
}
