/** @file From an options schema to a command's flags, and from flags and a file to options. */
import { type Command, Option } from '@commander-js/extra-typings';
import { z } from 'zod';
import { flagOf, resolveOptions } from '../options/options.js';
import { readOptionsFile } from '../options/options-file.js';

interface JsonSchema {
  type?: string;
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  default?: unknown;
  description?: string;
}

/** Adds `--config`, and a flag for each key of the schema with its description and default. */
export function addFlags(command: Command, schema: z.ZodObject): void {
  const { properties = {} } = z.toJSONSchema(schema, { io: 'input' });
  for (const [key, property] of Object.entries(properties as Record<string, JsonSchema>)) {
    command.addOption(optionOf(key, property));
    if (property.type === 'boolean')
      command.addOption(new Option(flagOf(key).replace('--', '--no-')).hideHelp());
  }
  command.addOption(
    new Option(
      '--config <file>',
      'YAML or JSON file with any of these options by name; flags win (--no-… turns a switch off), and relative paths count from the current directory',
    ),
  );
}

/**
 * What flags and the file of `--config` say together, with every default filled in.
 * @throws ConfigError as `readOptionsFile` and `resolveOptions`
 */
export function resolveFlags<S extends z.ZodObject>(schema: S, flags: Record<string, unknown>): z.output<S> {
  const { config, ...given } = flags;
  if (config === undefined) return resolveOptions(schema, given);
  const { options, places } = readOptionsFile(config as string, schema);
  const fromFile = new Map([...places].filter(([key]) => !(key in given)));
  return resolveOptions(schema, { ...options, ...given }, fromFile);
}

function optionOf(
  key: string,
  { type, enum: choices, anyOf, items, default: fallback, description }: JsonSchema,
): Option {
  const isList = type === 'array';
  const name = isNumeric(items?.type ?? type) ? 'number' : 'value';
  // What may also be true has its value left out for that.
  const isOptional = anyOf?.some((one) => one.type === 'boolean') ?? false;
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
