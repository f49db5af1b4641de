/** @file Image prompts: what one adapter adds to a batch of images, how strongly, where and when. */
import type { SiteAddition } from '../models/layers/attention-site.js';
import type { EmbedsScaling } from '../options/reference-options.js';
import { type Tensor, zeros } from '../torch/index.js';
import { scaledAttention } from './embeds-scaling.js';
import type { IPAdapter } from './ip-adapter.js';
import { maskAt, type RegionMask } from './region-mask.js';
import type { SitePlan, SiteUse } from './weight-types.js';

export interface ImagePrompt {
  adapter: IPAdapter;
  /**
   * Image tokens of the reference images, [batch, tokens, contextDim], in the dtype of the text states. Those of several
   * references stand one after another, and share one softmax.
   */
  tokens: Tensor;
  /** Image tokens for the negative side of guidance, usually of the null image: same shape and dtype. */
  negativeTokens: Tensor;
  /** Image tokens for the layers of composition, where they have their own: same shape and dtype. */
  compositionTokens?: Tensor | undefined;
  /** The strength of the image prompt beside the text: 0 none, 1 as in training. A plan says it for each site. */
  scale: number | SitePlan;
  /** What the scale multiplies; default: 'v-only'. */
  scaling?: EmbedsScaling | undefined;
  /** Where the prompt acts; default: everywhere. */
  mask?: RegionMask | undefined;
  /** The fractions, 0 … 1, between which the prompt acts. */
  range: readonly [start: number, end: number];
  /** The number of trained timesteps, of which the fractions are then; undefined: they are of the steps taken. */
  trainedTimesteps?: number | undefined;
}

/** The tokens of one side of guidance, by their use at a site. */
type SiteTokens = Record<SiteUse['tokens'], Tensor>;

/** Returns the tokens of a prompt for both sides of guidance. */
export function sideTokens({
  tokens,
  negativeTokens,
  compositionTokens = tokens,
}: ImagePrompt): Record<'positive' | 'negative', SiteTokens> {
  return {
    positive: { image: tokens, composition: compositionTokens, exchanged: zeros(tokens.shape, tokens) },
    negative: { image: negativeTokens, composition: negativeTokens, exchanged: tokens },
  };
}

/** Returns whether a prompt adds anything at all. */
export function isUsed({ scale }: Pick<ImagePrompt, 'scale'>): boolean {
  return typeof scale === 'number' ? scale !== 0 : [...scale.values()].some((use) => use.scale !== 0);
}

/**
 * Returns what a prompt adds at the sites of its backbone.
 * @param tokens of one side of guidance or of both, joined along the batch
 */
export function promptAddition(
  { adapter, scale: plan, scaling = 'v-only', mask }: ImagePrompt,
  tokens: SiteTokens,
): SiteAddition {
  return {
    at({ site, grid, attend }) {
      const use = typeof plan === 'number' ? { scale: plan, tokens: 'image' as const } : plan.get(site.name);
      const processor = adapter.ip_adapter[site.keyIndex];
      if (use === undefined || use.scale === 0 || !processor) return null;
      const scaled = scaledAttention(scaling, use.scale, attend);
      const hidden = processor.call(tokens[use.tokens], scaled.attend);
      if (mask === undefined) return { hidden, weight: scaled.weight };
      return { hidden: hidden.mul(maskAt(mask, grid).to(hidden)), weight: scaled.weight };
    },
  };
}

/**
 * Returns whether a prompt acts in a step. Fractions of the schedule are of noise levels, compared as ComfyUI does
 * (`percent_to_sigma`): at the timesteps from (1 − start) · (n − 1) down to (1 − end) · (n − 1) of n trained ones.
 * @param step counted from 0 @param timestep that the backbone is called with
 */
export function isActive(
  { range: [start, end], trainedTimesteps }: Pick<ImagePrompt, 'range' | 'trainedTimesteps'>,
  step: number,
  totalSteps: number,
  timestep: number,
): boolean {
  if (trainedTimesteps === undefined) return step / totalSteps >= start && (step + 1) / totalSteps <= end;
  const last = trainedTimesteps - 1;
  return (start === 0 || timestep <= (1 - start) * last) && (end === 1 || timestep >= (1 - end) * last);
}
