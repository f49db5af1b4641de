/**
 * @file The adapter as a whole: the image projection, and a processor for each cross-attention of a UNet. It is
 * attached to the UNet and detached again; the UNet's own weights are never touched.
 */
import type { AttentionProcessor } from '../models/layers/attention.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { Module } from '../nn/module.js';
import { type Generator, noGrad, type Tensor, tidy } from '../torch/index.js';
import type { ImageProjection } from './image-projection.js';
import { IPAttnProcessor } from './ip-attn-processor.js';

/** Image features, as `image_proj` takes them, → image tokens [batch, numTokens, crossAttentionDim]. */
export class IPAdapter extends Module<[imageFeatures: Tensor]> {
  image_proj: ImageProjection;
  /** By the number of the UNet's attention layer in diffusers' order; null at self-attention. */
  ip_adapter: (IPAttnProcessor | null)[];

  readonly #unet: UNet2DConditionModel;
  #before: AttentionProcessor[] | null = null;

  constructor(unet: UNet2DConditionModel, projection: ImageProjection) {
    super();
    this.image_proj = projection;
    this.ip_adapter = unet.attentionLayers().map(({ name, attention }) => {
      const [hiddenSize, crossAttentionDim] = attention.to_k.weight.shape as [number, number];
      return name.endsWith('.attn2')
        ? new IPAttnProcessor(hiddenSize, crossAttentionDim, projection.numTokens)
        : null;
    });
    this.#unet = unet;
  }

  get numTokens(): number {
    return this.image_proj.numTokens;
  }

  /** A new adapter: a random projection, and each layer's `to_k`, `to_v` as the start of `to_k_ip`, `to_v_ip`. */
  init(generator: Generator): this {
    using _ = noGrad();
    const layers = this.#unet.attentionLayers();
    this.image_proj.init(generator);
    this.ip_adapter.forEach((processor, i) => {
      const attention = layers[i]?.attention;
      if (processor === null || attention === undefined) return;
      const copy = (weight: Tensor): Map<string, Tensor> =>
        tidy(() => new Map([['weight', weight.to('float32').clone()]]));
      processor.to_k_ip.loadStateDict(copy(attention.to_k.weight), 'to_k');
      processor.to_v_ip.loadStateDict(copy(attention.to_v.weight), 'to_v');
    });
    return this;
  }

  /** Puts the processors into the UNet, which from now on expects image tokens after the text's. */
  attach(): void {
    if (this.#before !== null) return;
    const layers = this.#unet.attentionLayers();
    this.#before = layers.map(({ attention }) => attention.processor);
    layers.forEach(({ attention }, i) => {
      attention.processor = this.ip_adapter[i] ?? attention.processor;
    });
  }

  /** Gives the UNet back its own processors: its output is then the same, to the bit, as before. */
  detach(): void {
    this.#unet.attentionLayers().forEach(({ attention }, i) => {
      attention.processor = this.#before?.[i] ?? attention.processor;
    });
    this.#before = null;
  }

  /** How strongly the image counts beside the text: 0 not at all, 1 as in training. */
  setScale(scale: number): void {
    for (const processor of this.ip_adapter) if (processor !== null) processor.scale = scale;
  }

  protected override forward(imageFeatures: Tensor): Tensor {
    return this.image_proj.call(imageFeatures);
  }
}
