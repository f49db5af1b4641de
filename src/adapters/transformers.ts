/** @file The transformers of a backbone in the order of execution, by which ComfyUI numbers them, and their blocks. */
import type { AttentionSite } from '../models/layers/attention-site.js';

/** A transformer of a UNet with its cross-attention sites. */
export interface SiteTransformer {
  /** Such as 'down_blocks.2.attentions.1'. */
  name: string;
  part: 'down' | 'mid' | 'up';
  /** The name of its block: 'down_blocks.2', 'mid_block'. */
  block: string;
  sites: readonly AttentionSite[];
}

/** Returns the transformers that the sites are in: down, mid, up. */
export function transformersOf(sites: readonly AttentionSite[]): SiteTransformer[] {
  const names = [...new Set(sites.map(transformerOf))];
  const all = names.map((name): SiteTransformer => {
    const block = name.replace(/\.attentions\.\d+$/, '');
    const part = block.startsWith('down') ? 'down' : block.startsWith('up') ? 'up' : 'mid';
    return { name, part, block, sites: sites.filter((site) => transformerOf(site) === name) };
  });
  return (['down', 'mid', 'up'] as const).flatMap((part) => all.filter((one) => one.part === part));
}

function transformerOf({ name }: AttentionSite): string {
  return name.replace(/\.transformer_blocks\..*$/, '');
}
