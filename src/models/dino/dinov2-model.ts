/**
 * @file DINOv2 (Oquab et al., arXiv 2304.07193), with or without register tokens (Darcet et al., arXiv 2309.16588);
 * transformers `models/dinov2/modeling_dinov2.py` and `models/dinov2_with_registers/`.
 */
import { gelu, silu } from '../../nn/functional.js';
import { LayerNorm, Linear } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import { empty, type Tensor } from '../../torch/index.js';
import { readViTConfig, ViTAttention, ViTBase, type ViTConfig } from './vit-layers.js';

export interface Dinov2Config extends ViTConfig {
  mlpRatio: number;
  /** Whether the layers are gated, as those of the giant model. */
  isSwiGLU: boolean;
  registers: number;
}

/**
 * Reads the config of a Dinov2Model or Dinov2WithRegistersModel.
 * @param imageSize height and width of the images to encode, in pixels; the config's `image_size` is that of the training
 * @throws ConfigError for an unsupported value or an unknown key
 */
export function parseDinov2Config(json: unknown, where: string, imageSize?: number): Dinov2Config {
  const reader = new ConfigReader(json, where);
  const common = readViTConfig(reader, 1e-6, 14);
  const type = reader.oneOf('model_type', 'dinov2', ['dinov2', 'dinov2_with_registers']);
  const config = {
    ...common,
    imageSize: imageSize ?? common.imageSize,
    mlpRatio: reader.count('mlp_ratio', 4, 64),
    isSwiGLU: reader.flag('use_swiglu_ffn', false),
    registers: type === 'dinov2' ? 0 : reader.count('num_register_tokens', 4),
  };
  reader.finish();
  return config;
}

export class Dinov2Model extends ViTBase<Dinov2Config> {
  constructor(config: Dinov2Config) {
    super(config, () => new Dinov2Layer(config), config.registers);
  }
}

class Dinov2Layer extends Module {
  readonly norm1: LayerNorm;
  readonly attention: ViTAttention;
  readonly layer_scale1: LayerScale;
  readonly norm2: LayerNorm;
  readonly mlp: Module;
  readonly layer_scale2: LayerScale;

  constructor(config: Dinov2Config) {
    super();
    const { hiddenSize, eps, mlpRatio, isSwiGLU } = config;
    this.norm1 = new LayerNorm(hiddenSize, eps);
    this.attention = new ViTAttention(config);
    this.layer_scale1 = new LayerScale(hiddenSize);
    this.norm2 = new LayerNorm(hiddenSize, eps);
    this.mlp = isSwiGLU ? new SwiGLU(hiddenSize, mlpRatio) : new MLP(hiddenSize, mlpRatio);
    this.layer_scale2 = new LayerScale(hiddenSize);
  }

  protected forward(hidden: Tensor): Tensor {
    const x = hidden.add(this.layer_scale1.call(this.attention.call(this.norm1.call(hidden))));
    return x.add(this.layer_scale2.call(this.mlp.call(this.norm2.call(x))));
  }
}

/** A learned factor for each channel (Touvron et al., arXiv 2103.17239). */
class LayerScale extends Module {
  lambda1: Tensor;

  constructor(dim: number) {
    super();
    this.lambda1 = empty([dim], { device: 'meta' });
  }

  protected forward(x: Tensor): Tensor {
    return x.mul(this.lambda1);
  }
}

class MLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;

  constructor(dim: number, ratio: number) {
    super();
    this.fc1 = new Linear(dim, dim * ratio);
    this.fc2 = new Linear(dim * ratio, dim);
  }

  protected forward(x: Tensor): Tensor {
    return this.fc2.call(gelu(this.fc1.call(x)));
  }
}

/** silu(a) · b, where [a, b] = weights_in x (Shazeer, arXiv 2002.05202) */
class SwiGLU extends Module {
  readonly weights_in: Linear;
  readonly weights_out: Linear;

  constructor(dim: number, ratio: number) {
    super();
    // Two thirds, so that three matrices have as many weights as two; a multiple of eight.
    const inner = Math.ceil(Math.floor((dim * ratio * 2) / 3) / 8) * 8;
    this.weights_in = new Linear(dim, 2 * inner);
    this.weights_out = new Linear(inner, dim);
  }

  protected forward(x: Tensor): Tensor {
    const [gate, value] = this.weights_in.call(x).chunk(2, -1) as [Tensor, Tensor];
    return this.weights_out.call(silu(gate).mul(value));
  }
}
