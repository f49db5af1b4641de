/**
 * @file Scales by block, layer or transformer. Dictionaries by block are diffusers' (loaders/ip_adapter.py,
 * `set_ip_adapter_scale`, and loaders/unet_loader_utils.py): `down` and `up` hold `block_0` …, a block one number or one for
 * each of its transformers, and what is not named is 0. Numbers as keys are ComfyUI's layer weights: transformers in the
 * order of execution (IPAdapterPlus.py, `layer_weights`).
 */
import { ConfigError } from '../base/errors.js';
import { nearestName } from '../base/nearest-name.js';
import type { BlockScales } from '../options/reference-options.js';
import type { SiteTransformer } from './transformers.js';

const option = '--block-scales (blockScales)';

/**
 * Returns the scale of each site, by its name; 0 where nothing names it. Where several keys name a site, the longest counts.
 * @throws ConfigError where a block or layer does not exist, or a list has another length than the block has transformers
 */
export function scalesBySite(
  scales: BlockScales,
  transformers: readonly SiteTransformer[],
): Map<string, number> {
  const entries = Object.entries(scales).flatMap(([key, value]): [string, number | number[]][] =>
    typeof value === 'object' && !Array.isArray(value)
      ? Object.entries(value).map(([inner, scale]) => [`${key}.${inner}`, scale])
      : [[key, value]],
  );
  const bySite = new Map(
    transformers.flatMap(({ sites }) => sites.map(({ name }): [string, number] => [name, 0])),
  );
  const named = entries.map(([key, value]) => ({ key, value, prefix: prefixOf(key, transformers) }));
  for (const { key, value, prefix } of named.sort((a, b) => a.prefix.length - b.prefix.length)) {
    const inside = transformers.filter(({ name }) => isIn(name, prefix));
    // A key below a transformer names sites of one.
    const chosen = inside.length > 0 ? inside : transformers.filter(({ name }) => isIn(prefix, name));
    const blocks = new Map(chosen.map(({ block }) => [block, chosen.filter((one) => one.block === block)]));
    for (const [block, ofBlock] of blocks) {
      const list = listFor(value, ofBlock.length, key, block);
      for (const [i, { sites }] of ofBlock.entries())
        for (const { name } of sites) if (isIn(name, prefix)) bySite.set(name, list[i] as number);
    }
  }
  return bySite;
}

function isIn(name: string, prefix: string): boolean {
  return prefix === '' || name === prefix || name.startsWith(`${prefix}.`) || partOf(name) === prefix;
}

/** 'down' for the sites of down_blocks: diffusers names all of them so. */
function partOf(name: string): string {
  return name.replace(/_blocks?\..*$/, '');
}

/** Returns the beginning of the names of the sites that a key stands for. */
function prefixOf(key: string, transformers: readonly SiteTransformer[]): string {
  const names = namesOf(transformers);
  const found = names.get(key);
  if (found !== undefined) return found;
  const nearest = nearestName(key, names.keys()) ?? nearestName(key.replace(/^.*\./, ''), names.keys());
  const blocks = [...names.keys()].filter((name) => /^(down|up)\.block_\d+$|^mid$/.test(name));
  throw new ConfigError(
    `${option} names ${key}, which this model does not have, or which has no cross-attention${nearest === undefined ? '.' : `; did you mean ${nearest}?`} Its blocks are ${blocks.join(', ')}, its transformers 0 to ${transformers.length - 1}.`,
  );
}

/** Every key that may be given, with the beginning of the sites' names. */
function namesOf(transformers: readonly SiteTransformer[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const [i, { name, part, block, sites }] of transformers.entries()) {
    names.set(part, part);
    names.set(block, block);
    if (part !== 'mid') names.set(block.replace('_blocks.', '.block_'), block);
    names.set(name, name);
    names.set(String(i), name);
    for (const site of sites) names.set(site.name, site.name);
  }
  return names;
}

function listFor(value: number | number[], count: number, key: string, block: string): number[] {
  if (typeof value === 'number') return Array<number>(count).fill(value);
  if (value.length === 1) return Array<number>(count).fill(value[0] as number);
  if (value.length === count) return value;
  throw new ConfigError(
    `${option} has ${value.length} numbers for ${key}, and ${block} has ${count} ${count === 1 ? 'transformer' : 'transformers'}; give one number, or ${count}`,
  );
}
