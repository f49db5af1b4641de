/**
 * @file All that a backbone knows of adapters: the places where one may add to its attention, and what it is asked for
 * there.
 */
import type { Tensor } from '../../torch/index.js';

/** A place in a backbone: an attention layer that reads the text. */
export interface AttentionSite {
  /** Such as 'mid_block.attentions.0.transformer_blocks.0.attn2'. */
  readonly name: string;
  /**
   * The number of the layer among all of the backbone's, self-attention counted, in the order of diffusers'
   * `attn_processors`; published adapters name their modules by it.
   */
  readonly keyIndex: number;
  /** The site's own key and value projections [innerDim, contextDim], from which a new adapter starts. */
  readonly to_k: Tensor;
  readonly to_v: Tensor;
}

/** One run through a site. */
export interface SiteCall {
  site: AttentionSite;
  /** Height and width of the latents here: n = height × width queries, row by row. */
  grid: readonly [height: number, width: number];
  /**
   * Attends from the site's queries to other keys and values, with the site's own heads and precision:
   * softmax(Q K'ᵀ / √dimHead) V'.
   * @param key [batch, m, innerDim], of any dtype, as is `value`
   * @returns [batch, n, innerDim], in the dtype of the queries
   */
  attend(key: Tensor, value: Tensor): Tensor;
}

/** What is added at a site: weight × hidden, in one operation, so that it is rounded once. */
interface AddedAttention {
  /** [batch, n, innerDim] */
  hidden: Tensor;
  weight: number;
}

/**
 * Adds to the attention of a backbone's sites, before their output projection. It is a record (see tensor-tree.ts): the
 * tensors that it depends on are its fields, read through `this`, so that a checkpointed segment can take them as inputs.
 */
export interface SiteAddition {
  /** Returns what is added in this call, or null for nothing. */
  at(call: SiteCall): AddedAttention | null;
}
