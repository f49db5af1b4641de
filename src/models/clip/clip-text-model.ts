/** @file CLIP's text encoder (transformers `src/transformers/models/clip/modeling_clip.py`, CLIPTextModel). */
import { Embedding, LayerNorm } from '../../nn/layers.js';
import { ConfigReader } from '../../nn/model-config.js';
import { Module } from '../../nn/module.js';
import { arange, type Tensor } from '../../torch/index.js';
import { CLIPEncoder, type CLIPEncoderConfig, readCLIPEncoderConfig } from './clip-encoder.js';

export interface CLIPTextConfig extends CLIPEncoderConfig {
  vocabSize: number;
  maxPositions: number;
  eosTokenId: number;
}

/**
 * Reads a CLIPTextModel's config.
 * @param json the parsed config.json
 * @param where its path, for errors
 * @throws ConfigError for an unsupported value or an unknown key
 */
export function parseCLIPTextConfig(json: unknown, where: string): CLIPTextConfig {
  const reader = new ConfigReader(json, where);
  const config: CLIPTextConfig = {
    ...readCLIPEncoderConfig(reader, { hiddenSize: 512, heads: 8, isCausal: true }),
    vocabSize: reader.count('vocab_size', 49408, 2 ** 20),
    maxPositions: reader.count('max_position_embeddings', 77),
    eosTokenId: reader.count('eos_token_id', 49407, 2 ** 20),
  };
  // The width of the text projection, which CLIPTextModel does not have.
  reader.ignore('projection_dim');
  reader.finish();
  return config;
}

export interface CLIPTextOutput {
  /** [batch, n, hiddenSize], after the final normalisation; the UNet of SD 1.x attends to it */
  lastHiddenState: Tensor;
  /**
   * [batch, n, hiddenSize] each, not normalised: the embeddings, then the state after each layer. The UNet of SDXL attends
   * to the last but one.
   */
  hiddenStates: Tensor[];
  /** [batch, hiddenSize], the last hidden state at the end-of-text token */
  poolerOutput: Tensor;
}

/** inputIds [batch, n] int64 in 0 … vocabSize - 1, n ≤ maxPositions. There is no padding mask: padding counts as text. */
export class CLIPTextModel extends Module<[inputIds: Tensor], CLIPTextOutput> {
  readonly text_model: CLIPTextTransformer;
  readonly config: CLIPTextConfig;

  constructor(config: CLIPTextConfig) {
    super();
    this.text_model = new CLIPTextTransformer(config);
    this.config = config;
  }

  protected forward(inputIds: Tensor): CLIPTextOutput {
    const hiddenStates = this.text_model.call(inputIds);
    const lastHiddenState = this.text_model.final_layer_norm.call(hiddenStates.at(-1) as Tensor);
    const [batch = 0, n = 0, channels = 0] = lastHiddenState.shape;
    const row = arange(0, batch, 1, { dtype: 'int64', device: inputIds.device }).mul(n);
    const ends = row.add(this.#endOfText(inputIds));
    return {
      lastHiddenState,
      hiddenStates,
      poolerOutput: lastHiddenState.reshape(batch * n, channels).indexSelect(0, ends),
    };
  }

  /**
   * Returns the first position of the end-of-text token, [batch]. Configs from before transformers 4.31, such as SD 1.x's,
   * wrongly say that its id is 2; then it is the highest id, as in CLIP's vocabulary.
   */
  #endOfText(inputIds: Tensor): Tensor {
    const { eosTokenId } = this.config;
    return (eosTokenId === 2 ? inputIds : inputIds.eq(eosTokenId).to('int32')).argmax(-1);
  }
}

/** Ids [batch, n] → `CLIPTextOutput.hiddenStates` */
class CLIPTextTransformer extends Module<[inputIds: Tensor], Tensor[]> {
  readonly embeddings: CLIPTextEmbeddings;
  readonly encoder: CLIPEncoder;
  readonly final_layer_norm: LayerNorm;

  constructor(config: CLIPTextConfig) {
    super();
    this.embeddings = new CLIPTextEmbeddings(config);
    this.encoder = new CLIPEncoder(config);
    this.final_layer_norm = new LayerNorm(config.hiddenSize, config.eps);
  }

  protected forward(inputIds: Tensor): Tensor[] {
    const states = [this.embeddings.call(inputIds)];
    for (const layer of this.encoder.layers) states.push(layer.call(states.at(-1) as Tensor));
    return states;
  }
}

class CLIPTextEmbeddings extends Module<[inputIds: Tensor]> {
  readonly token_embedding: Embedding;
  readonly position_embedding: Embedding;

  constructor({ vocabSize, maxPositions, hiddenSize }: CLIPTextConfig) {
    super();
    this.token_embedding = new Embedding(vocabSize, hiddenSize);
    this.position_embedding = new Embedding(maxPositions, hiddenSize);
  }

  protected forward(inputIds: Tensor): Tensor {
    const n = inputIds.shape.at(-1) ?? 0;
    const positions = this.position_embedding.weight;
    const maxTokens = positions.shape[0] ?? 0;
    if (n > maxTokens)
      throw new RangeError(`Expected at most ${maxTokens} tokens for inputIds but received ${n}`);
    return this.token_embedding.call(inputIds).add(positions.slice(0, 0, n));
  }
}
