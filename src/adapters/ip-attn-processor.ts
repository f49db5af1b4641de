/**
 * @file Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, equation 5; tencent-ailab/IP-Adapter
 * ip_adapter/attention_processor.py): beside a layer's attention to the text, a second one to the image tokens,
 * with the same queries and keys and values of its own.
 */
import type { Attention, AttentionProcessor } from '../models/layers/attention.js';
import { Linear } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import type { Tensor } from '../torch/index.js';

type Args = [layer: Attention, hiddenStates: Tensor, encoderHiddenStates: Tensor | undefined];

/** Takes the last `numTokens` of the encoder's states as image tokens, the others as text. */
export class IPAttnProcessor extends Module<Args> implements AttentionProcessor {
  to_k_ip: Linear;
  to_v_ip: Linear;
  /** What the attention to the image is multiplied by; 0 switches it off. */
  scale = 1;
  readonly #numTokens: number;

  /** @param hiddenSize width of the layer's keys; @param crossAttentionDim width of the tokens */
  constructor(hiddenSize: number, crossAttentionDim: number, numTokens: number) {
    super();
    this.to_k_ip = new Linear(crossAttentionDim, hiddenSize, { bias: false });
    this.to_v_ip = new Linear(crossAttentionDim, hiddenSize, { bias: false });
    this.#numTokens = numTokens;
  }

  protected override forward(
    layer: Attention,
    hiddenStates: Tensor,
    encoderHiddenStates: Tensor | undefined,
  ): Tensor {
    if (encoderHiddenStates === undefined)
      throw new Error('an image prompt needs cross-attention: encoderHiddenStates is missing');
    const textLength = (encoderHiddenStates.shape[1] as number) - this.#numTokens;
    const text = encoderHiddenStates.slice(1, 0, textLength);
    const query = layer.to_q.call(hiddenStates);
    const fromText = layer.attend(query, layer.to_k.call(text), layer.to_v.call(text));
    if (this.scale === 0) return fromText;

    // The trained weights may be in float32 beside a UNet in half precision.
    const image = encoderHiddenStates.slice(1, textLength).to(this.to_k_ip.weight.dtype);
    const key = this.to_k_ip.call(image).to(query.dtype);
    const value = this.to_v_ip.call(image).to(query.dtype);
    const fromImage = layer.attend(query, key, value);
    return fromText.add(fromImage, this.scale);
  }
}
