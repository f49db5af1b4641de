/**
 * @file ViTModel, DINO's class (Caron et al., arXiv 2104.14294; transformers `models/vit/modeling_vit.py`). DINO ViT-S/16 is
 * the field's measure of whether an image shows the same subject (DreamBooth, arXiv 2208.12242, section 4.2).
 */
import { gelu } from '../../nn/functional.js';
import { LayerNorm } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';
import { VisionModel } from '../layers/vision-model.js';
import {
  Dense,
  readViTConfig,
  ViTAttention,
  type ViTConfig,
  ViTEmbeddings,
  ViTEncoder,
} from './vit-layers.js';

export interface ViTModelConfig extends ViTConfig {
  intermediateSize: number;
}

/** Reads a ViTModel's config. @throws ConfigError for an unsupported value or an unknown key */
export function parseViTConfig(json: unknown, where: string): ViTModelConfig {
  const reader = new ConfigReader(json, where);
  const config = {
    ...readViTConfig(reader, 1e-12, 16),
    intermediateSize: reader.count('intermediate_size', 3072),
  };
  reader.finish();
  return config;
}

/** pixelValues [batch, channels, imageSize, imageSize] → the class token after the last norm, [batch, hiddenSize] */
export class ViTModel extends VisionModel<ViTModelConfig> {
  readonly embeddings: ViTEmbeddings;
  readonly encoder: ViTEncoder;
  readonly layernorm: LayerNorm;

  constructor(config: ViTModelConfig) {
    super(config);
    this.embeddings = new ViTEmbeddings(config);
    this.encoder = new ViTEncoder(Array.from({ length: config.layers }, () => new ViTLayer(config)));
    this.layernorm = new LayerNorm(config.hiddenSize, config.eps);
  }

  get pooledDim(): number {
    return this.config.hiddenSize;
  }

  protected runLayers(pixelValues: Tensor, count: number): Tensor {
    return this.encoder.call(this.embeddings.call(pixelValues), count);
  }

  pool(lastHiddenState: Tensor): Tensor {
    return this.layernorm.call(lastHiddenState.select(1, 0));
  }
}

class ViTLayer extends Module {
  readonly attention: ViTAttention;
  readonly intermediate: Dense;
  readonly output: Dense;
  readonly layernorm_before: LayerNorm;
  readonly layernorm_after: LayerNorm;

  constructor(config: ViTModelConfig) {
    super();
    const { hiddenSize, intermediateSize, eps } = config;
    this.attention = new ViTAttention(config);
    this.intermediate = new Dense(hiddenSize, intermediateSize);
    this.output = new Dense(intermediateSize, hiddenSize);
    this.layernorm_before = new LayerNorm(hiddenSize, eps);
    this.layernorm_after = new LayerNorm(hiddenSize, eps);
  }

  protected forward(hidden: Tensor): Tensor {
    const x = hidden.add(this.attention.call(this.layernorm_before.call(hidden)));
    return x.add(this.output.call(gelu(this.intermediate.call(this.layernorm_after.call(x)))));
  }
}
