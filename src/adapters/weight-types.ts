/**
 * @file How a scale is spread over the layers of a backbone: the weight types of ComfyUI_IPAdapter_plus, by the number of a
 * transformer in the order of execution (IPAdapterPlus.py, `ipadapter_execute`; CrossAttentionPatch.py,
 * `ipadapter_attention`). Its table for SDXL is that of InstantStyle (arXiv 2404.02733).
 */
import { ConfigError } from '../base/errors.js';
import type { AttentionSite } from '../models/layers/attention-site.js';
import type { WeightType } from '../options/reference-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { scalesBySite } from './block-scales.js';
import { type SiteTransformer, transformersOf } from './transformers.js';

/** What an image prompt does at a site. */
export interface SiteUse {
  scale: number;
  /**
   * 'image': the prompt's tokens; 'composition': those of its composition images; 'exchanged': the prompt's tokens on the
   * negative side of guidance and zeros on the positive one, which leads away from the image.
   */
  tokens: 'image' | 'composition' | 'exchanged';
}

/** What an image prompt does at each site, by the site's name; nothing at a site that is missing. */
export type SitePlan = ReadonlyMap<string, SiteUse>;

type Spread = Pick<ReferenceSettings, 'weightType' | 'blockScales' | 'styleScale' | 'compositionScale'>;

/** The transformers of a family that carry composition, with their shares, and style; the others carry neither. */
interface LayerTable {
  composition: ReadonlyMap<number, number>;
  style: readonly number[];
}

/** By the number of transformers. */
const tables: ReadonlyMap<number, LayerTable> = new Map([
  // Stable Diffusion 1.x and 2.x; 6 is the middle.
  [
    16,
    {
      composition: new Map([
        [4, 0.25],
        [5, 1],
      ]),
      style: [0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15],
    },
  ],
  // SDXL; 4 is the middle.
  [11, { composition: new Map([[3, 1]]), style: [6] }],
]);

/**
 * Returns what an image prompt does at each site; a number where it is the same at all of them.
 * @throws ConfigError where a weight type or a scale by block does not fit the backbone
 */
export function sitePlan(
  sites: readonly AttentionSite[],
  scale: number,
  { weightType = 'linear', blockScales, styleScale = scale, compositionScale = scale }: Spread,
): number | SitePlan {
  if (weightType === 'linear' && blockScales === undefined) return scale;
  const transformers = transformersOf(sites);
  const bySite = blockScales && scalesBySite(blockScales, transformers);
  const ease = easing(weightType);
  const layers =
    ease === null ? layersOf(weightType, transformers, { scale, styleScale, compositionScale }) : null;
  return new Map(
    transformers.flatMap((transformer, i) => {
      const use = layers?.get(i) ?? { scale: layers === null ? scale : 0, tokens: 'image' as const };
      const factor = ease?.(transformer, i, transformers.length) ?? 1;
      return transformer.sites.map(({ name }): [string, SiteUse] => [
        name,
        { ...use, scale: bySite === undefined ? use.scale * factor : scale * (bySite.get(name) as number) },
      ]);
    }),
  );
}

type Easing = (transformer: SiteTransformer, i: number, count: number) => number;

/** Returns the factor of each transformer; null for a type that chooses layers. */
function easing(type: WeightType): Easing | null {
  const eased = (share: (i: number, count: number) => number): Easing => {
    return (_, i, count) => 0.05 + 0.95 * share(i, count);
  };
  /** 0.2 in these parts, 1 elsewhere. */
  const weak = (...parts: SiteTransformer['part'][]): Easing => {
    return ({ part }) => (parts.includes(part) ? 0.2 : 1);
  };
  const distance = (i: number, count: number): number => Math.abs(i - count / 2) / (count / 2);
  switch (type) {
    case 'linear':
      return () => 1;
    case 'ease-in':
      return eased((i, count) => 1 - i / count);
    case 'ease-out':
      return eased((i, count) => i / count);
    case 'ease-in-out':
      return eased((i, count) => 1 - distance(i, count));
    case 'reverse-in-out':
      return eased(distance);
    case 'weak-input':
      return weak('down');
    case 'weak-middle':
      return weak('mid');
    case 'weak-output':
      return weak('up');
    case 'strong-middle':
      return weak('down', 'up');
    default:
      return null;
  }
}

interface Scales {
  scale: number;
  styleScale: number;
  compositionScale: number;
}

/** Returns what the type does in each transformer that it chooses, by number. */
function layersOf(
  type: WeightType,
  transformers: readonly SiteTransformer[],
  { scale, styleScale, compositionScale }: Scales,
): Map<number, SiteUse> {
  const count = transformers.length;
  const table = tables.get(count);
  if (table === undefined)
    throw new ConfigError(
      `--weight-type (weightType) ${type} is for the layers of Stable Diffusion 1.x, 2.x and XL, with ${[...tables.keys()].join(' or ')} transformers, and this model has ${count}; give --block-scales (blockScales)`,
    );
  const composition = (factor: number, tokens: SiteUse['tokens'] = 'image'): [number, SiteUse][] =>
    Array.from(table.composition, ([i, share]) => [i, { scale: factor * share, tokens }]);
  const style = (factor: number, tokens: SiteUse['tokens'] = 'image'): [number, SiteUse][] =>
    table.style.map((i) => [i, { scale: factor, tokens }]);
  const others = (factor: number, tokens: SiteUse['tokens'] = 'image'): [number, SiteUse][] =>
    Array.from({ length: count }, (_, i): [number, SiteUse] => [i, { scale: factor, tokens }]).filter(
      ([i]) => !table.composition.has(i) && !table.style.includes(i),
    );
  switch (type) {
    case 'style':
    case 'style-transfer':
      return new Map(style(scale));
    case 'composition':
      return new Map(composition(scale));
    case 'strong-style-transfer':
      return new Map([...style(scale), ...others(scale)]);
    case 'style-and-composition':
      return new Map([...style(scale), ...composition(compositionScale, 'composition')]);
    case 'style-transfer-precise':
      return new Map([...style(scale), ...composition(compositionScale, 'exchanged')]);
    default: {
      // Composition precise.
      const rest = styleScale * 0.1;
      return new Map([
        ...composition(scale),
        ...style(styleScale, 'exchanged'),
        ...others(rest, 'exchanged'),
      ]);
    }
  }
}
