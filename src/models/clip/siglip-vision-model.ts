/**
 * @file SigLIP's image encoder (Zhai et al., arXiv 2303.15343; transformers `models/siglip/modeling_siglip.py`): CLIP's
 * transformer without a class token, pooled by attention.
 */
import { linear, multiHeadAttention } from '../../nn/functional.js';
import { Conv2d, Embedding, LayerNorm, Linear } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import { empty, type Tensor, tidy } from '../../torch/index.js';
import { VisionModel } from '../layers/vision-model.js';
import { CLIPEncoder, type CLIPEncoderConfig, CLIPMLP, readCLIPEncoderConfig } from './clip-encoder.js';

export interface SiglipVisionConfig extends CLIPEncoderConfig {
  channels: number;
  /** Height and width of the images, in pixels. */
  imageSize: number;
  patchSize: number;
}

/** Reads a SiglipVisionModel's config. @throws ConfigError for an unsupported value or an unknown key */
export function parseSiglipVisionConfig(json: unknown, where: string): SiglipVisionConfig {
  const reader = new ConfigReader(json, where);
  reader.only({ vision_use_head: true });
  const config: SiglipVisionConfig = {
    ...readCLIPEncoderConfig(reader, {
      hiddenSize: 768,
      heads: 12,
      isCausal: false,
      eps: 1e-6,
      activation: 'gelu_pytorch_tanh',
    }),
    channels: reader.count('num_channels', 3),
    imageSize: reader.count('image_size', 224),
    patchSize: reader.count('patch_size', 16, 1024),
  };
  reader.finish();
  return config;
}

/** pixelValues [batch, channels, imageSize, imageSize], in -1 … 1 → image embeddings [batch, hiddenSize] */
export class SiglipVisionModel extends VisionModel<SiglipVisionConfig> {
  readonly embeddings: SiglipVisionEmbeddings;
  readonly encoder: CLIPEncoder;
  readonly post_layernorm: LayerNorm;
  readonly head: SiglipMultiheadAttentionPoolingHead;

  constructor(config: SiglipVisionConfig) {
    super(config);
    this.embeddings = new SiglipVisionEmbeddings(config);
    this.encoder = new CLIPEncoder(config);
    this.post_layernorm = new LayerNorm(config.hiddenSize, config.eps);
    this.head = new SiglipMultiheadAttentionPoolingHead(config);
  }

  get pooledDim(): number {
    return this.config.hiddenSize;
  }

  protected runLayers(pixelValues: Tensor, count: number): Tensor {
    return this.encoder.call(this.embeddings.call(pixelValues), count);
  }

  pool(lastHiddenState: Tensor): Tensor {
    return tidy(() => this.head.call(this.post_layernorm.call(lastHiddenState)));
  }
}

class SiglipVisionEmbeddings extends Module {
  readonly patch_embedding: Conv2d;
  readonly position_embedding: Embedding;

  constructor({ channels, hiddenSize, imageSize, patchSize }: SiglipVisionConfig) {
    super();
    this.patch_embedding = new Conv2d(channels, hiddenSize, patchSize, { stride: patchSize });
    this.position_embedding = new Embedding(Math.floor(imageSize / patchSize) ** 2, hiddenSize);
  }

  protected forward(pixelValues: Tensor): Tensor {
    const patches = this.patch_embedding.call(pixelValues).flatten(2).transpose(1, 2);
    return patches.add(this.position_embedding.weight);
  }
}

/** One learned query that attends to all patches: [batch, n, hiddenSize] → [batch, hiddenSize] */
class SiglipMultiheadAttentionPoolingHead extends Module {
  probe: Tensor;
  readonly attention: MultiheadAttention;
  readonly layernorm: LayerNorm;
  readonly mlp: CLIPMLP;

  constructor(config: SiglipVisionConfig) {
    super();
    const { hiddenSize, heads, eps } = config;
    this.probe = empty([1, 1, hiddenSize], { device: 'meta' });
    this.attention = new MultiheadAttention(hiddenSize, heads);
    this.layernorm = new LayerNorm(hiddenSize, eps);
    this.mlp = new CLIPMLP(config);
  }

  protected forward(hidden: Tensor): Tensor {
    const probe = this.probe.expand(hidden.shape[0] as number, -1, -1);
    const pooled = this.attention.call(probe, hidden);
    return pooled.add(this.mlp.call(this.layernorm.call(pooled))).select(1, 0);
  }
}

/** torch.nn.MultiheadAttention, whose three projections are one parameter. */
class MultiheadAttention extends Module<[query: Tensor, context: Tensor]> {
  in_proj_weight: Tensor;
  in_proj_bias: Tensor;
  readonly out_proj: Linear;
  readonly #heads: number;

  constructor(dim: number, heads: number) {
    super();
    this.in_proj_weight = empty([3 * dim, dim], { device: 'meta' });
    this.in_proj_bias = empty([3 * dim], { device: 'meta' });
    this.out_proj = new Linear(dim, dim);
    this.#heads = heads;
  }

  protected forward(query: Tensor, context: Tensor): Tensor {
    const weights = this.in_proj_weight.chunk(3);
    const biases = this.in_proj_bias.chunk(3);
    const project = (x: Tensor, part: number): Tensor =>
      linear(x, weights[part] as Tensor, biases[part] as Tensor);
    return this.out_proj.call(
      multiHeadAttention(project(query, 0), project(context, 1), project(context, 2), this.#heads),
    );
  }
}
