/** @file Turns an options schema into a command's flags, and flags with an option file into options. */
import { type Command, Option } from '@commander-js/extra-typings';
import { z } from 'zod';
import { aliasesOf, areSame, optionOf } from '../options/aliases.js';
import { flagOf, resolveOptions, type ShownAs } from '../options/options.js';
import { readOptionsFile } from '../options/options-file.js';
import { detailKeys } from '../options/reference-options.js';

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
    command.addOption(flagFor(key, property));
    if (property.type === 'boolean')
      command.addOption(new Option(flagOf(key).replace('--', '--no-')).hideHelp());
  }
  for (const [name, { option, element }] of aliasesOf(schema)) {
    const property = known[option] as JsonSchema;
    const whole = property.anyOf?.find(({ type }) => type === 'string') ?? property;
    // An alias of an option that also takes a list takes one value, the last of several.
    const own = element === undefined ? whole : (property.prefixItems?.[element] as JsonSchema);
    command.addOption(flagFor(name, own).hideHelp());
  }
  command.addOption(
    new Option(
      '--config <file>',
      'YAML or JSON file with any of these options by name; flags win, and --no-… turns a switch off; relative paths count from the current directory',
    ),
  );
}

/**
 * Returns the options from flags and the file of `--config`, with every default filled in.
 * @throws ConfigError as `readOptionsFile` and `resolveOptions`
 */
export function resolveFlags<S extends z.ZodObject>(schema: S, flags: Record<string, unknown>): z.output<S> {
  const { options, shownAs } = mergeFlags(schema, flags);
  return resolveOptions(schema, options, shownAs);
}

/**
 * Returns the options from flags, the file of `--config` and others, of which each wins over the next. They are not checked.
 * @throws ConfigError as `readOptionsFile`
 */
export function mergeFlags(
  schema: z.ZodObject,
  flags: Record<string, unknown>,
  others: Record<string, unknown> = {},
): { options: Record<string, unknown>; shownAs: ShownAs } {
  const { config, ...given } = flags;
  const file =
    config === undefined
      ? { options: {}, places: new Map<string, string>() }
      : readOptionsFile(config as string, schema);
  const chosen = overlaid(schema, file.options, given);
  return {
    options: overlaid(schema, others, chosen),
    shownAs: (name) => (name in given ? flagOf(name) : (file.places.get(name) ?? flagOf(name))),
  };
}

/** Returns both, but what `over` sets under any of its names only from there. */
function overlaid(
  schema: z.ZodObject,
  under: Record<string, unknown>,
  over: Record<string, unknown>,
): Record<string, unknown> {
  // One for an element of a list does not hide the other elements.
  const kept = Object.entries(under).filter(
    ([name]) => !Object.keys(over).some((one) => isOverridden(schema, name, one)),
  );
  return { ...Object.fromEntries(kept), ...over };
}

function isOverridden(schema: z.ZodObject, name: string, flag: string): boolean {
  const { element } = optionOf(schema, flag);
  return areSame(schema, name, flag) && (element === undefined || element === optionOf(schema, name).element);
}

function flagFor(
  key: string,
  { type, enum: choices, anyOf = [], items, prefixItems, default: fallback, description }: JsonSchema,
): Option {
  const isList = type === 'array' || anyOf.some((one) => one.type === 'array');
  const element = prefixItems?.[0] ?? items ?? anyOf.find((one) => one.type === 'array')?.items;
  const name = isNumeric(element?.type ?? type) ? 'number' : 'value';
  // The value may be left out where it may be true.
  const isOptional = anyOf.some((one) => one.type === 'boolean');
  const value = isList ? `<${name}...>` : isOptional ? `[${name}]` : `<${name}>`;
  // --no-… turns off a switch that the file of --config turns on.
  if (type === 'boolean') return new Option(flagOf(key), description);
  const option = new Option(`${flagOf(key)} ${type === 'object' ? '<json>' : value}`, description);
  if (detailKeys.has(key)) option.helpGroup('Reference images in detail:');
  if (choices !== undefined) option.choices(choices);
  // Defaults are filled in by the schema; commander only shows them.
  const isShown = fallback !== undefined && fallback !== '' && fallback !== false && !isList;
  if (isShown) option.description += ` (default: ${String(fallback)})`;
  if (isList) {
    const read = name === 'number' ? toNumber : (text: string) => text;
    option.argParser((text, before: unknown[] = []) => [...before, read(text)]);
  } else if (name === 'number') option.argParser(toNumber);
  else if (type === 'object') option.argParser(toObject);
  return option;
}

function isNumeric(type: string | undefined): boolean {
  return type === 'number' || type === 'integer';
}

// What is not JSON is passed on: the schema's error names the flag.
function toObject(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// What is not a number is passed on: the schema's error names the flag.
function toNumber(text: string): number | string {
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
