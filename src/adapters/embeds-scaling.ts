/**
 * @file What the scale of an image prompt multiplies (ComfyUI_IPAdapter_plus CrossAttentionPatch.py, `embeds_scaling`). As a
 * factor on the output it is that of equation 5 of arXiv 2308.06721; as a factor on keys it also flattens or sharpens the
 * softmax, so that several references compete differently.
 */
import type { SiteCall } from '../models/layers/attention-site.js';
import type { EmbedsScaling } from '../options/reference-options.js';

/** The width at which the C penalty is 1: that of the widest layers of Stable Diffusion. */
const fullWidth = 1280;

/** Returns a site's attention with keys and values scaled, and the factor that is left for its output. */
export function scaledAttention(
  scaling: EmbedsScaling,
  scale: number,
  attend: SiteCall['attend'],
): { attend: SiteCall['attend']; weight: number } {
  if (scaling === 'v-only') return { attend, weight: scale };
  return {
    weight: 1,
    attend: (key, value) => {
      const penalty = scaling === 'k+v' ? 1 : (key.shape[2] as number) / fullWidth;
      const factor = scale * penalty;
      if (scaling !== 'k+mean-v-c-penalty') return attend(key.mul(factor), value.mul(factor));
      const mean = value.mean([1], true);
      return attend(key.mul(factor), value.sub(mean).add(mean, factor));
    },
  };
}
