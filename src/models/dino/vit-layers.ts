/**
 * @file The parts that the vision transformers of DINO and DINOv2 share, named as in transformers'
 * `models/vit/modeling_vit.py` and `models/dinov2/modeling_dinov2.py` (Dosovitskiy et al., arXiv 2010.11929).
 */
import { multiHeadAttention } from '../../nn/functional.js';
import { Conv2d, LayerNorm, Linear } from '../../nn/layers.js';
import { type ConfigReader, MAX_LAYERS } from '../../nn/model-config.js';
import { chain, Module } from '../../nn/module.js';
import { cat, empty, op, type Tensor } from '../../torch/index.js';
import { VisionModel, type VisionModelConfig } from '../layers/vision-model.js';

const aten = {
  bicubic: op(
    'aten::upsample_bicubic2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor',
  ),
  bicubicAntialiased: op(
    'aten::_upsample_bicubic2d_aa(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor',
  ),
};

export interface ViTConfig extends VisionModelConfig {
  heads: number;
  eps: number;
  channels: number;
  patchSize: number;
  /** Height and width of the images whose patches have a position embedding each. */
  pretrainedSize: number;
  qkvBias: boolean;
}

/** Reads the keys that both models' config.json have. */
export function readViTConfig(reader: ConfigReader, eps: number, patchSize: number): ViTConfig {
  const hiddenSize = reader.count('hidden_size', 768);
  const heads = reader.count('num_attention_heads', 12);
  reader.require(
    hiddenSize % heads === 0,
    'num_attention_heads',
    `a number that divides hidden_size ${hiddenSize}`,
  );
  reader.only({ hidden_act: 'gelu' });
  reader.ignore(...withoutEffect);
  const imageSize = reader.count('image_size', 224);
  return {
    hiddenSize,
    heads,
    imageSize,
    pretrainedSize: imageSize,
    layers: reader.count('num_hidden_layers', 12, MAX_LAYERS),
    eps: reader.number('layer_norm_eps', eps),
    channels: reader.count('num_channels', 3),
    patchSize: reader.count('patch_size', patchSize, 1024),
    qkvBias: reader.flag('qkv_bias', true),
  };
}

/** Pixels → the class token, register tokens where there are some, and a linear projection of each patch */
class ViTEmbeddings extends Module<[pixelValues: Tensor]> {
  cls_token: Tensor;
  position_embeddings: Tensor;
  register_tokens: Tensor | null;
  readonly patch_embeddings: ViTPatchEmbeddings;
  readonly #config: ViTConfig;

  constructor(config: ViTConfig, registers = 0) {
    super();
    const { hiddenSize, pretrainedSize, patchSize } = config;
    const positions = Math.floor(pretrainedSize / patchSize) ** 2 + 1;
    this.cls_token = empty([1, 1, hiddenSize], { device: 'meta' });
    this.position_embeddings = empty([1, positions, hiddenSize], { device: 'meta' });
    this.register_tokens = registers === 0 ? null : empty([1, registers, hiddenSize], { device: 'meta' });
    this.patch_embeddings = new ViTPatchEmbeddings(config);
    this.#config = config;
  }

  protected forward(pixelValues: Tensor): Tensor {
    const [batch = 0] = pixelValues.shape;
    const patches = this.patch_embeddings.call(pixelValues);
    const tokens = cat([this.cls_token.expand(batch, -1, -1), patches], 1).add(this.#positions());
    if (this.register_tokens === null) return tokens;
    return cat([tokens.slice(1, 0, 1), this.register_tokens.expand(batch, -1, -1), tokens.slice(1, 1)], 1);
  }

  /** Position embeddings are learned for one size of images, and resampled for others (Oquab et al., arXiv 2304.07193). */
  #positions(): Tensor {
    const { imageSize, pretrainedSize, patchSize } = this.#config;
    if (imageSize === pretrainedSize) return this.position_embeddings;
    const [from, to] = [pretrainedSize, imageSize].map((size) => Math.floor(size / patchSize)) as [
      number,
      number,
    ];
    const patches = this.position_embeddings.slice(1, 1);
    const grid = patches.to('float32').view(1, from, from, -1).permute(0, 3, 1, 2);
    // As transformers: antialiased in the model with registers only.
    const resample = this.register_tokens === null ? aten.bicubic : aten.bicubicAntialiased;
    const resampled = resample(grid, [to, to], false).to(patches.dtype);
    return cat([this.position_embeddings.slice(1, 0, 1), resampled.flatten(2).transpose(1, 2)], 1);
  }
}

class ViTPatchEmbeddings extends Module {
  readonly projection: Conv2d;

  constructor({ channels, hiddenSize, patchSize }: ViTConfig) {
    super();
    this.projection = new Conv2d(channels, hiddenSize, patchSize, { stride: patchSize });
  }

  protected forward(pixelValues: Tensor): Tensor {
    return this.projection.call(pixelValues).flatten(2).transpose(1, 2);
  }
}

export class ViTAttention extends Module {
  readonly attention: ViTSelfAttention;
  readonly output: Dense;

  constructor(config: ViTConfig) {
    super();
    this.attention = new ViTSelfAttention(config);
    this.output = new Dense(config.hiddenSize, config.hiddenSize);
  }

  protected forward(x: Tensor): Tensor {
    return this.output.call(this.attention.call(x));
  }
}

/** pixelValues [batch, channels, imageSize, imageSize] → the class token after the last norm, [batch, hiddenSize] */
export abstract class ViTBase<C extends ViTConfig> extends VisionModel<C> {
  readonly embeddings: ViTEmbeddings;
  readonly encoder: ViTEncoder;
  readonly layernorm: LayerNorm;

  /** @param makeLayer makes one of the layers @param registers the number of register tokens */
  constructor(config: C, makeLayer: () => Module, registers = 0) {
    super(config);
    this.embeddings = new ViTEmbeddings(config, registers);
    this.encoder = new ViTEncoder(Array.from({ length: config.layers }, makeLayer));
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

/** The layers, which published keys number below `layer`; runs the first `count` of them. */
class ViTEncoder extends Module<[hidden: Tensor, count: number]> {
  readonly layer: readonly Module[];

  constructor(layer: readonly Module[]) {
    super();
    this.layer = layer;
  }

  protected forward(hidden: Tensor, count: number): Tensor {
    return chain(hidden, this.layer.slice(0, count));
  }
}

/** A linear layer that published keys name `dense`. */
export class Dense extends Module {
  readonly dense: Linear;

  constructor(inFeatures: number, outFeatures: number) {
    super();
    this.dense = new Linear(inFeatures, outFeatures);
  }

  protected forward(x: Tensor): Tensor {
    return this.dense.call(x);
  }
}

class ViTSelfAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly #heads: number;

  constructor({ hiddenSize, heads, qkvBias: bias }: ViTConfig) {
    super();
    this.query = new Linear(hiddenSize, hiddenSize, { bias });
    this.key = new Linear(hiddenSize, hiddenSize, { bias });
    this.value = new Linear(hiddenSize, hiddenSize, { bias });
    this.#heads = heads;
  }

  protected forward(x: Tensor): Tensor {
    return multiHeadAttention(this.query.call(x), this.key.call(x), this.value.call(x), this.#heads);
  }
}

// Keys that transformers writes and a frozen encoder does not use.
const withoutEffect = [
  ...['architectures', 'model_type', 'transformers_version', 'torch_dtype', 'dtype', 'initializer_range'],
  ...[
    'attention_probs_dropout_prob',
    'hidden_dropout_prob',
    'drop_path_rate',
    'layerscale_value',
    'use_mask_token',
  ],
  ...['encoder_stride', 'pooler_act', 'pooler_output_size', 'apply_layernorm', 'reshape_hidden_states'],
  ...[
    'out_features',
    'out_indices',
    'stage_names',
    'id2label',
    'label2id',
    'return_dict',
    'output_hidden_states',
  ],
];
