/**
 * @file The interface between backbones and adapters: a backbone has attention sites, and an adapter adds to the attention
 * at each site.
 */
import type { Tensor } from '../../torch/index.js';

/** A cross-attention layer of a backbone. */
export interface AttentionSite {
  /** Such as 'mid_block.attentions.0.transformer_blocks.0.attn2'. */
  readonly name: string;
  /**
   * The index of the layer in diffusers' `attn_processors`, which counts self-attention too. Published adapters name their
   * modules by it.
   */
  readonly keyIndex: number;
  /** The weights of the site's key and value projections [innerDim, contextDim]; a new adapter starts from copies. */
  readonly to_k: Tensor;
  readonly to_v: Tensor;
}

/** One call of the attention layer at a site. */
export interface SiteCall {
  site: AttentionSite;
  /** Height and width of the hidden states at the site: n = height × width queries, row by row. */
  grid: readonly [height: number, width: number];
  /** The site's own attention, to the text, without any addition: [batch, n, innerDim]. */
  attended: Tensor;
  /**
   * Attends from the site's queries to other keys and values, with the heads and precision of the site:
   * softmax(Q K'ᵀ / √dimHead) V'.
   * @param key [batch, m, innerDim], any dtype
   * @param value [batch, m, innerDim], any dtype
   * @returns [batch, n, innerDim], in the dtype of the queries
   */
  attend(key: Tensor, value: Tensor): Tensor;
}

/** What is added at a site: weight × hidden. Product and sum are one operation, so that they are rounded once. */
interface AddedAttention {
  /** [batch, n, innerDim] */
  hidden: Tensor;
  weight: number;
}

/**
 * Adds to the attention at the sites of a backbone, before their output projection. The tensors that it depends on must be
 * its fields, read through `this` (see torch/tensor-tree.ts): a checkpointed segment takes them as inputs.
 */
export interface SiteAddition {
  /** Returns what to add in this call, or null to add nothing. */
  at(call: SiteCall): AddedAttention | null;
}
