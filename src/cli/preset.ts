/** @file `train --preset`: fills in the options of a preset below those of the user, and shows them. */
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { resolveAliases } from '../options/aliases.js';
import { flagOf, resolveOptions } from '../options/options.js';
import { type PresetName, presetBeside, presetNames } from '../options/presets.js';
import { mergeFlags } from './flags.js';

/**
 * Returns the options with every default filled in, as `resolveFlags`. `say` receives what the preset sets, as flags, and what
 * the user's options override.
 * @throws ConfigError as `resolveFlags`; where fine-tune has no adapter to start from
 */
export function resolveWithPreset<S extends z.ZodObject>(
  schema: S,
  flags: Record<string, unknown>,
  say: (text: string) => void,
): z.output<S> {
  const { options, shownAs } = mergeFlags(schema, flags);
  const name = options.preset;
  const users = resolveAliases(schema, options, shownAs);
  const { set, overridden } = isPreset(name) ? presetBeside(name, users) : { set: {}, overridden: {} };
  const resolved = resolveOptions(schema, { ...set, ...options }, shownAs);
  if (!isPreset(name)) return resolved;
  if (name === 'fine-tune' && resolved.adapter === undefined && resolved.resume === undefined)
    throw new ConfigError(
      '--preset fine-tune trains an adapter further, and none is given: give --adapter, such as h94/IP-Adapter/models/ip-adapter-plus_sd15.safetensors, or --preset small',
    );
  const shown = Object.keys(overridden).length === 0 ? '' : `; your options override ${asFlags(overridden)}`;
  say(`--preset ${name} sets ${asFlags(set)}${shown}`);
  return resolved;
}

function isPreset(name: unknown): name is PresetName {
  return presetNames.includes(name as PresetName);
}

function asFlags(options: Readonly<Record<string, unknown>>): string {
  return Object.entries(options)
    .map(([key, value]) => (value === true ? flagOf(key) : `${flagOf(key)} ${[value].flat().join(',')}`))
    .join(' ');
}
