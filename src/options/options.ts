/** @file Checks the options of every command, and defines the options that commands share. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { nearestName } from '../base/nearest-name.js';
import { optionOf, resolveAliases } from './aliases.js';

/** A path, or a name on the Hub; `~` at its start is the home folder, which a shell does not expand in `--flag=~/…`. */
export const path = z.string('must be a path').min(1, 'must not be empty').transform(expandHome);

function expandHome(text: string): string {
  return /^~(?=$|\/)/.test(text) ? join(homedir(), text.slice(1)) : text;
}

/** A whole number from `least` to `most`, both included. */
export function whole(least: number, most = 1e9): z.ZodInt {
  const range = `must be a whole number from ${least} to ${most.toLocaleString('en')}`;
  return z.int(range).min(least, range).max(most, range);
}

/** A number from `least` to `most`, both included. */
export function number(least: number, most: number): z.ZodNumber {
  const range = `must be a number from ${least} to ${most.toLocaleString('en')}`;
  // With abort, the checks of a tuple of such numbers do not run where one of them is wrong.
  const wrong = { error: range, abort: true };
  return z.number(range).min(least, wrong).max(most, wrong);
}

export const count = whole(1);
/** The side of an image. The limit is above what fits into the memory of any machine. */
export const side = whole(1, 8192);
/** How many of the text encoder's last layers are left out. */
export const clipSkip = whole(0, 100)
  .default(0)
  .describe("layers at the end of the text encoder to leave out, as diffusers' clip_skip");
/** A seed. At most half of the whole numbers that a float64 represents, so that seed + n is one as well. */
export const seed = whole(0, 2 ** 52);
export const flag = z.boolean('must be true or false');

/** Returns an option's name as a flag: `batchSize` → `--batch-size`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** The options that name a dataset. */
export const datasetOptions = {
  dataset: z
    .union([path.transform((one) => [one]), z.array(path).min(1, 'must name one dataset at least')], {
      error: 'must be a path, or a list of paths',
    })
    .describe(
      'folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar, also https:// and hf://datasets/…, or a .txt file that lists them; - is a tar on standard input (train); several are joined',
    ),
  // In the original, an empty path is the current directory.
  datasetRoot: z
    .string('must be a path')
    .transform(expandHome)
    .optional()
    .describe("folder that image_file in a JSON dataset is relative to; default: the JSON file's folder"),
  shardCacheSize: z
    .number('must be a number of GB')
    .positive('must be above 0')
    .optional()
    .describe('GB of remote shards to keep on disk, in the cache that all runs share; default: 100'),
};

/** The device and precision of models. */
export const targetOptions = {
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d{1,3})?)$/, 'must be cpu, cuda or cuda:N')
    .optional()
    .describe('device to run on: cpu, cuda or cuda:N; default: cuda if LibTorch finds a GPU, else cpu'),
  dtype: z
    .enum(['float32', 'float16', 'bfloat16'])
    .optional()
    .describe('precision of the models; default: float32 on the CPU, float16 on a GPU'),
  threads: whole(1, 1024).optional().describe('CPU threads of LibTorch; default: all cores'),
};

/** Returns an option's name for errors: its key in a call, its flag on a command line, its place in a file. */
export type ShownAs = (key: string) => string;

/**
 * Returns the options without aliases and with every default filled in.
 * @throws ConfigError that names every wrong option, its value and what it takes
 */
export function resolveOptions<S extends z.ZodObject>(
  schema: S,
  options: unknown,
  shownAs: ShownAs = (key) => key,
): z.output<S> {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new ConfigError(`The options are ${shown(options)}; they must be an object such as { seed: 1 }`);
  const written = options as Record<string, unknown>;
  const named = resolveAliases(schema, written, shownAs);
  const parsed = schema.safeParse(named, { error: expectation });
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') {
      // Suggest names of options only for options, not for keys inside of one.
      const known = issue.path.length === 0 ? Object.keys(schema.shape) : [];
      return issue.keys.map((key) => `Unknown option ${key}${suggestion(key, known)}`).join('\n');
    }
    const [key = '', ...inner] = issue.path as [string, ...PropertyKey[]];
    const whole = named[key];
    if (whole === undefined) return `${shownAs(key)} is required: ${schema.shape[key]?.description ?? ''}`;
    // The name that the user wrote: the option's, an alias, or the alias of an element, which is shown without an index.
    const writtenName = Object.keys(written).find((name) => {
      const { option, element } = optionOf(schema, name);
      return written[name] !== undefined && option === key && (element === undefined || element === inner[0]);
    });
    const name = shownAs(writtenName ?? key);
    if (writtenName !== undefined && optionOf(schema, writtenName).element !== undefined)
      return `${name} is ${shown(written[writtenName])}; it ${issue.message}`;
    const value = inner.reduce(partOf, whole);
    // A part that is not in the value was parsed from it, such as the second of 'a,b': show the whole value.
    if (value === undefined) return `${name} is ${shown(whole)}; it ${issue.message}`;
    const index = inner.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`));
    return `${name}${index.join('')} is ${shown(value)}; it ${issue.message}`;
  });
  throw new ConfigError(faults.join('\n'));
}

function partOf(whole: unknown, part: PropertyKey): unknown {
  return typeof whole === 'object' && whole !== null ? Reflect.get(whole, part) : undefined;
}

/** Returns what an option takes, for issues whose schema has no message. */
function expectation(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_value') {
    const names = issue.values.map(String);
    const meant = typeof issue.input === 'string' ? nearestName(issue.input, names) : undefined;
    return `must be one of ${names.join(', ')}${meant === undefined ? '' : `; did you mean ${meant}?`}`;
  }
  if (issue.code === 'invalid_type' && issue.expected !== 'never') {
    const kinds: Record<string, string> = { array: 'a list', object: 'an object', boolean: 'true or false' };
    return `must be ${kinds[issue.expected] ?? `a ${issue.expected}`}`;
  }
  return undefined;
}

/** Returns '; did you mean learning_rate?', in the spelling of the unknown name; '' where no key is similar. */
export function suggestion(unknown: string, keys: readonly string[]): string {
  const nearest = nearestName(unknown, keys);
  if (nearest === undefined) return '';
  const separator = /[-_]/.exec(unknown)?.[0];
  const written =
    separator === undefined
      ? nearest
      : nearest.replace(/[A-Z]/g, (letter) => `${separator}${letter.toLowerCase()}`);
  return `; did you mean ${written}?`;
}

/** Returns a value as JSON, without the bytes of images; values that JSON lacks are written as in JavaScript. */
function shown(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint' || value === undefined) return String(value);
  try {
    return (
      JSON.stringify(value, (_, part) => (part instanceof Uint8Array ? `${part.length} bytes` : part)) ??
      String(value)
    );
  } catch {
    return 'an object that refers to itself';
  }
}
