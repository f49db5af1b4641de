/**
 * @file ViTModel, DINO's class (Caron et al., arXiv 2104.14294; transformers `models/vit/modeling_vit.py`). DINO ViT-S/16 is
 * the field's measure of whether an image shows the same subject (DreamBooth, arXiv 2208.12242, section 4.2).
 */
import { gelu } from '../../nn/functional.js';
import { LayerNorm } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';
import { Dense, readViTConfig, ViTAttention, ViTBase, type ViTConfig } from './vit-layers.js';

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

export class ViTModel extends ViTBase<ViTModelConfig> {
  constructor(config: ViTModelConfig) {
    super(config, () => new ViTLayer(config));
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
