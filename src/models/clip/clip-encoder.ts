/**
 * @file The transformer that CLIP's text and vision models share, with pre-normalisation (Radford et al., arXiv 2103.00020;
 * transformers `src/transformers/models/clip/modeling_clip.py`).
 */
import { gelu, multiHeadAttention, quickGelu } from '../../nn/functional.js';
import { LayerNorm, Linear } from '../../nn/layers.js';
import { type ConfigReader, MAX_LAYERS } from '../../nn/model-config.js';
import { chain, Module } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';

export interface CLIPEncoderConfig {
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  eps: number;
  activation: 'quick_gelu' | 'gelu' | 'gelu_pytorch_tanh';
  /** Whether positions attend only to themselves and earlier positions. */
  isCausal: boolean;
}

/** Reads the keys that both models' config.json have. */
export function readCLIPEncoderConfig(
  reader: ConfigReader,
  defaults: Pick<CLIPEncoderConfig, 'hiddenSize' | 'heads' | 'isCausal'> &
    Partial<Pick<CLIPEncoderConfig, 'eps' | 'activation'>>,
): CLIPEncoderConfig {
  const hiddenSize = reader.count('hidden_size', defaults.hiddenSize);
  const heads = reader.count('num_attention_heads', defaults.heads);
  reader.require(
    hiddenSize % heads === 0,
    'num_attention_heads',
    `a number that divides hidden_size ${hiddenSize}`,
  );
  reader.ignore('model_type', ...withoutEffect);
  return {
    hiddenSize,
    heads,
    intermediateSize: reader.count('intermediate_size', defaults.hiddenSize * 4),
    layers: reader.count('num_hidden_layers', 12, MAX_LAYERS),
    eps: reader.number('layer_norm_eps', defaults.eps ?? 1e-5),
    activation: reader.oneOf('hidden_act', defaults.activation ?? 'quick_gelu', [
      'quick_gelu',
      'gelu',
      'gelu_pytorch_tanh',
    ]),
    isCausal: defaults.isCausal,
  };
}

/** Runs the first `count` layers (default: all): hidden [batch, n, hiddenSize] → the same shape */
export class CLIPEncoder extends Module<[hidden: Tensor, count?: number]> {
  readonly layers: readonly CLIPEncoderLayer[];

  constructor(config: CLIPEncoderConfig) {
    super();
    this.layers = Array.from({ length: config.layers }, () => new CLIPEncoderLayer(config));
  }

  protected forward(hidden: Tensor, count = this.layers.length): Tensor {
    return chain(hidden, this.layers.slice(0, count));
  }
}

class CLIPEncoderLayer extends Module {
  readonly self_attn: CLIPAttention;
  readonly layer_norm1: LayerNorm;
  readonly mlp: CLIPMLP;
  readonly layer_norm2: LayerNorm;

  constructor(config: CLIPEncoderConfig) {
    super();
    this.self_attn = new CLIPAttention(config);
    this.layer_norm1 = new LayerNorm(config.hiddenSize, config.eps);
    this.mlp = new CLIPMLP(config);
    this.layer_norm2 = new LayerNorm(config.hiddenSize, config.eps);
  }

  protected forward(hidden: Tensor): Tensor {
    const x = hidden.add(this.self_attn.call(this.layer_norm1.call(hidden)));
    return x.add(this.mlp.call(this.layer_norm2.call(x)));
  }
}

class CLIPAttention extends Module {
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly q_proj: Linear;
  readonly out_proj: Linear;
  readonly #heads: number;
  readonly #isCausal: boolean;

  constructor({ hiddenSize, heads, isCausal }: CLIPEncoderConfig) {
    super();
    this.k_proj = new Linear(hiddenSize, hiddenSize);
    this.v_proj = new Linear(hiddenSize, hiddenSize);
    this.q_proj = new Linear(hiddenSize, hiddenSize);
    this.out_proj = new Linear(hiddenSize, hiddenSize);
    this.#heads = heads;
    this.#isCausal = isCausal;
  }

  protected forward(x: Tensor): Tensor {
    const attended = multiHeadAttention(
      this.q_proj.call(x),
      this.k_proj.call(x),
      this.v_proj.call(x),
      this.#heads,
      { isCausal: this.#isCausal },
    );
    return this.out_proj.call(attended);
  }
}

const activations: Record<CLIPEncoderConfig['activation'], (x: Tensor) => Tensor> = {
  quick_gelu: quickGelu,
  gelu: (x) => gelu(x),
  gelu_pytorch_tanh: (x) => gelu(x, 'tanh'),
};

export class CLIPMLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor({ hiddenSize, intermediateSize, activation }: CLIPEncoderConfig) {
    super();
    this.fc1 = new Linear(hiddenSize, intermediateSize);
    this.fc2 = new Linear(intermediateSize, hiddenSize);
    this.#activation = activations[activation];
  }

  protected forward(x: Tensor): Tensor {
    return this.fc2.call(this.#activation(this.fc1.call(x)));
  }
}

// Keys that transformers writes into every config.json and a frozen CLIP encoder does not use: for training, text
// generation, classification, and the form of outputs.
const withoutEffect = [
  'architectures',
  'attention_dropout',
  'attn_implementation',
  'add_cross_attention',
  'bad_words_ids',
  'begin_suppress_tokens',
  'bos_token_id',
  'chunk_size_feed_forward',
  'cross_attention_hidden_size',
  'decoder_start_token_id',
  'diversity_penalty',
  'do_sample',
  'dropout',
  'dtype',
  'early_stopping',
  'encoder_no_repeat_ngram_size',
  'eos_token_id',
  'exponential_decay_length_penalty',
  'finetuning_task',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'id2label',
  'initializer_factor',
  'initializer_range',
  'is_decoder',
  'is_encoder_decoder',
  'label2id',
  'length_penalty',
  'max_length',
  'min_length',
  'no_repeat_ngram_size',
  'num_beam_groups',
  'num_beams',
  'num_return_sequences',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'pad_token_id',
  'prefix',
  'problem_type',
  'pruned_heads',
  'remove_invalid_values',
  'repetition_penalty',
  'return_dict',
  'return_dict_in_generate',
  'sep_token_id',
  'suppress_tokens',
  'task_specific_params',
  'temperature',
  'tf_legacy_loss',
  'tie_encoder_decoder',
  'tie_word_embeddings',
  'tokenizer_class',
  'top_k',
  'top_p',
  'torch_dtype',
  'torchscript',
  'transformers_version',
  'typical_p',
  'use_bfloat16',
];
