/**
 * @file The whole adapter: the image projection, and new key and value projections for each site of a backbone. The
 * backbone itself is not changed: each call of it takes the result of `addition(…)`.
 */
import type { AttentionSite, SiteAddition } from '../models/layers/attention-site.js';
import { Module } from '../nn/module.js';
import { type Generator, noGrad, type Tensor, tidy } from '../torch/index.js';
import { IPAttnProcessor } from './decoupled-attention.js';
import type { ImageProjection } from './kind.js';

/** Turns image features, as `image_proj` takes them, into image tokens [batch, numTokens, contextDim]. */
export class IPAdapter extends Module<[imageFeatures: Tensor]> {
  image_proj: ImageProjection;
  /** The processors by the `keyIndex` of their site; null at the indices of self-attention. */
  ip_adapter: (IPAttnProcessor | null)[];

  readonly #sites: readonly AttentionSite[];

  constructor(sites: readonly AttentionSite[], projection: ImageProjection) {
    super();
    this.image_proj = projection;
    this.ip_adapter = [];
    for (const { keyIndex, to_k } of sites) {
      while (this.ip_adapter.length < keyIndex) this.ip_adapter.push(null);
      const [innerDim, contextDim] = to_k.shape as [number, number];
      this.ip_adapter.push(new IPAttnProcessor(innerDim, contextDim));
    }
    this.#sites = sites;
  }

  /** The sites of its backbone. */
  get sites(): readonly AttentionSite[] {
    return this.#sites;
  }

  /** Fills in the values of a new adapter: a random projection; `to_k_ip`, `to_v_ip` start as copies of the site's `to_k`, `to_v`. */
  init(generator: Generator): this {
    using _ = noGrad();
    this.image_proj.init(generator);
    for (const { keyIndex, to_k, to_v } of this.#sites) {
      const processor = this.ip_adapter[keyIndex] as IPAttnProcessor;
      processor.to_k_ip.loadStateDict(copyOf(to_k), 'to_k');
      processor.to_v_ip.loadStateDict(copyOf(to_v), 'to_v');
    }
    return this;
  }

  /**
   * Returns what the adapter adds at the sites of its backbone.
   * @param tokens image tokens [batch, numTokens, contextDim] for the batch that the backbone is called with
   * @param scale the strength of the image prompt beside the text: 0 none, 1 as in training
   */
  addition(tokens: Tensor, scale = 1): SiteAddition & { tokens: Tensor } {
    const processors = this.ip_adapter;
    return {
      tokens,
      at({ site, attend }) {
        const processor = scale === 0 ? null : (processors[site.keyIndex] ?? null);
        return processor && { hidden: processor.call(this.tokens, attend), weight: scale };
      },
    };
  }

  protected override forward(imageFeatures: Tensor): Tensor {
    return this.image_proj.call(imageFeatures);
  }
}

function copyOf(weight: Tensor): Map<string, Tensor> {
  return tidy(() => new Map([['weight', weight.to('float32').clone()]]));
}
