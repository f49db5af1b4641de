/** @file Options of every command: how they are checked, and what they have in common. */
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
  // What holds several such numbers is not looked at as a whole where one is wrong.
  const wrong = { error: range, abort: true };
  return z.number(range).min(least, wrong).max(most, wrong);
}

export const count = whole(1);
/** Larger images than the memory of any machine has room to compute. */
export const side = whole(1, 8192);
/** Layers of the text encoder. */
export const clipSkip = whole(0, 100)
  .default(0)
  .describe("layers at the end of the text encoder to leave out, as diffusers' clip_skip");
/** Half of what a float counts exactly, so that the seeds of further images are whole numbers as well. */
export const seed = whole(0, 2 ** 52);
export const flag = z.boolean('must be true or false');

/** The name of an option as a flag: `batchSize` → `--batch-size`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** What is trained on or measured. */
export const datasetOptions = {
  dataset: z
    .union([path.transform((one) => [one]), z.array(path).min(1, 'must name one dataset at least')], {
      error: 'must be a path, or a list of paths',
    })
    .describe(
      'folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar; - is a tar on standard input (train); several are joined',
    ),
  // The original takes an empty one for the current directory.
  datasetRoot: z
    .string('must be a path')
    .transform(expandHome)
    .optional()
    .describe("folder that image_file in a JSON dataset is relative to; default: the JSON file's folder"),
};

/** Where a model runs, and in which precision. */
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

/** How a call's options are named in errors: by key in a call, as a flag on a command line, with its place from a file. */
export type ShownAs = (key: string) => string;

/**
 * The options with aliases resolved and every default filled in.
 * @throws ConfigError that names every option at fault, what it takes and what it got
 */
export function resolveOptions<S extends z.ZodObject>(
  schema: S,
  options: unknown,
  shownAs: ShownAs = (key) => key,
): z.output<S> {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new ConfigError(`The options are ${shown(options)}; they must be an object such as { seed: 1 }`);
  const given = options as Record<string, unknown>;
  const named = resolveAliases(schema, given, shownAs);
  const parsed = schema.safeParse(named, { error: expectation });
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') {
      // Those of an option's own parts have other names beside them.
      const known = issue.path.length === 0 ? Object.keys(schema.shape) : [];
      return issue.keys.map((key) => `Unknown option ${key}${suggestion(key, known)}`).join('\n');
    }
    const [key = '', ...inner] = issue.path as [string, ...PropertyKey[]];
    const whole = named[key];
    if (whole === undefined) return `${shownAs(key)} is required: ${schema.shape[key]?.description ?? ''}`;
    // The name that was given for it: its own, an alias, or the alias of an element, whose value is named without index.
    const written = Object.keys(given).find((name) => {
      const { option, element } = optionOf(schema, name);
      return given[name] !== undefined && option === key && (element === undefined || element === inner[0]);
    });
    const name = shownAs(written ?? key);
    if (written !== undefined && optionOf(schema, written).element !== undefined)
      return `${name} is ${shown(given[written])}; it ${issue.message}`;
    const value = inner.reduce(partOf, whole);
    // A part that is not in what was given was made of it, such as the second of 'a,b'.
    if (value === undefined) return `${name} is ${shown(whole)}; it ${issue.message}`;
    const index = inner.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`));
    return `${name}${index.join('')} is ${shown(value)}; it ${issue.message}`;
  });
  throw new ConfigError(faults.join('\n'));
}

function partOf(whole: unknown, part: PropertyKey): unknown {
  return typeof whole === 'object' && whole !== null ? Reflect.get(whole, part) : undefined;
}

/** What an option takes, where its schema has no words of its own. */
function expectation(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_value') return `must be one of ${issue.values.join(', ')}`;
  if (issue.code === 'invalid_type' && issue.expected !== 'never') {
    const kinds: Record<string, string> = { array: 'a list', object: 'an object', boolean: 'true or false' };
    return `must be ${kinds[issue.expected] ?? `a ${issue.expected}`}`;
  }
  return undefined;
}

/** '; did you mean learning_rate?', written as the unknown name is; nothing where no key is near. */
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

/** As JSON; the bytes of an image are left out, and what JSON has no word for is written as JavaScript does. */
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
