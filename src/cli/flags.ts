/** @file From an options schema to a command's flags, and from flags and a file to options. */
import { type Command, Option } from '@commander-js/extra-typings';
import { z } from 'zod';
import { aliasesOf, resolveAliases } from '../options/aliases.js';
import { flagOf, resolveOptions } from '../options/options.js';
import { readOptionsFile } from '../options/options-file.js';

interface JsonSchema {
  type?: string;
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  default?: unknown;
  description?: string;
}

/** Adds `--config`, a flag for each key of the schema with its description and default, and hidden ones for aliases. */
export function addFlags(command: Command, schema: z.ZodObject): void {
  const { properties = {} } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  const known = properties as Record<string, JsonSchema>;
  for (const [key, property] of Object.entries(known)) {
    // A list of objects is for option files.
    if (property.items?.type === 'object') continue;
    command.addOption(optionOf(key, property));
    if (property.type === 'boolean')
      command.addOption(new Option(flagOf(key).replace('--', '--no-')).hideHelp());
  }
  for (const [name, { option, element }] of aliasesOf(schema)) {
    const property = known[option] as JsonSchema;
    const whole = property.anyOf?.find(({ type }) => type === 'string') ?? property;
    // Where one value or a list is taken, an alias takes one, and of several the last, as it always has.
    const own = element === undefined ? whole : (property.prefixItems?.[element] as JsonSchema);
    command.addOption(optionOf(name, own).hideHelp());
  }
  command.addOption(
    new Option(
      '--config <file>',
      'YAML or JSON file with any of these options by name; flags win, and --no-… turns a switch off; relative paths count from the current directory',
    ),
  );
}

/**
 * What flags and the file of `--config` say together, with every default filled in.
 * @throws ConfigError as `readOptionsFile` and `resolveOptions`
 */
export function resolveFlags<S extends z.ZodObject>(schema: S, flags: Record<string, unknown>): z.output<S> {
  const { config, ...written } = flags;
  const given = resolveAliases(schema, written, flagOf);
  if (config === undefined) return resolveOptions(schema, given, flagOf);
  const file = readOptionsFile(config as string, schema);
  const shownAs = (key: string): string => file.places.get(key) ?? key;
  const fromFile = resolveAliases(schema, file.options, shownAs);
  const aliased = new Map(aliasesOf(schema).map(([name, { option }]) => [option, name]));
  const merged = Object.entries(given).map(([key, value]) => [key, merge(value, fromFile[key])]);
  return resolveOptions(schema, { ...fromFile, ...Object.fromEntries(merged) }, (key) =>
    key in given || !(key in fromFile)
      ? flagOf(key)
      : (file.places.get(key) ?? shownAs(aliased.get(key) as string)),
  );
}

/** A flag wins; of a list with an alias for each element, one that no flag gives is the file's. */
function merge(flag: unknown, file: unknown): unknown {
  if (!Array.isArray(flag) || !flag.includes(undefined) || !Array.isArray(file)) return flag;
  return flag.map((element, i) => element ?? file[i]);
}

function optionOf(
  key: string,
  { type, enum: choices, anyOf = [], items, prefixItems, default: fallback, description }: JsonSchema,
): Option {
  const isList = type === 'array' || anyOf.some((one) => one.type === 'array');
  const element = items ?? prefixItems?.[0];
  const name = isNumeric(element?.type ?? type) ? 'number' : 'value';
  // What may also be true has its value left out for that.
  const isOptional = anyOf.some((one) => one.type === 'boolean');
  const value = isList ? `<${name}...>` : isOptional ? `[${name}]` : `<${name}>`;
  // A switch is off unless it is given; --no-… is for one that the file of --config turns on.
  if (type === 'boolean') return new Option(flagOf(key), description);
  const option = new Option(`${flagOf(key)} ${value}`, description);
  if (choices !== undefined) option.choices(choices);
  // Defaults are filled in by the schema; commander only shows them.
  const isShown = fallback !== undefined && fallback !== '' && fallback !== false && !isList;
  if (isShown) option.description += ` (default: ${String(fallback)})`;
  if (isList) {
    const read = name === 'number' ? toNumber : (text: string) => text;
    option.argParser((text, before: unknown[] = []) => [...before, read(text)]);
  } else if (name === 'number') option.argParser(toNumber);
  return option;
}

function isNumeric(type: string | undefined): boolean {
  return type === 'number' || type === 'integer';
}

// What is no number goes on as it is, and the schema names the flag.
function toNumber(text: string): number | string {
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
