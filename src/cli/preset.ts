/** @file `train --preset`: fills in the options of a preset below those of the user, and shows them. */
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { resolveAliases } from '../options/aliases.js';
import { flagOf, resolveOptions } from '../options/options.js';
import { insteadOf, type PresetName, presets } from '../options/presets.js';
import type { TrainOptions } from '../options/train-types.js';
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
  const preset = Object.hasOwn(presets, String(name)) ? presets[name as PresetName] : {};
  const users = resolveAliases(schema, options, shownAs);
  const isUsers = (key: string): boolean =>
    users[key] !== undefined || users[insteadOf[key as keyof TrainOptions] ?? key] !== undefined;
  const [overridden, set] = [true, false].map((isOverridden) =>
    Object.entries(preset).filter(([key]) => isUsers(key) === isOverridden),
  ) as [[string, unknown][], [string, unknown][]];
  const resolved = resolveOptions(schema, { ...Object.fromEntries(set), ...options }, shownAs);
  if (Object.keys(preset).length === 0) return resolved;
  if (name === 'fine-tune' && resolved.adapter === undefined && resolved.resume === undefined)
    throw new ConfigError(
      '--preset fine-tune trains an adapter further, and none is given: give --adapter, such as h94/IP-Adapter/models/ip-adapter-plus_sd15.safetensors, or --preset small',
    );
  const shown = overridden.length === 0 ? '' : `; your options override ${asFlags(overridden)}`;
  say(`--preset ${name} sets ${asFlags(set)}${shown}`);
  return resolved;
}

function asFlags(options: readonly [string, unknown][]): string {
  return options
    .map(([key, value]) => (value === true ? flagOf(key) : `${flagOf(key)} ${[value].flat().join(',')}`))
    .join(' ');
}
