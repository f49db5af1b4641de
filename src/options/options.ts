/** @file Options of every command: how they are checked, and what they have in common. */
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { nearestName } from '../base/nearest-name.js';

export const path = z.string().min(1, 'must not be empty');
export const count = z.int('must be a whole number').min(1, 'must be at least 1');
export const fraction = z.number().min(0, 'must be at least 0').max(1, 'must be at most 1');

/** The name of an option as a flag: `trainBatchSize` → `--train-batch-size`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** What is trained on or measured; one of the first two is given. */
export const datasetOptions = {
  dataset: path
    .optional()
    .describe(
      'folder of pictures with .txt captions; JSON, JSONL; Parquet or WebDataset tar, a file, a folder or shards-{000..011}.tar; - is a tar from standard input (train)',
    ),
  dataJsonFile: path
    .optional()
    .describe('the same as --dataset, for JSON: [{"image_file": "1.png", "text": "A dog"}, …]'),
  dataRootPath: z
    .string()
    .optional()
    .describe("folder that image_file is relative to; default: the JSON file's"),
};

/** Where a model runs, and in which precision. */
export const targetOptions = {
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/, "must be 'cpu', 'cuda' or 'cuda:N'")
    .optional()
    .describe('cpu, cuda or cuda:N; default: cuda where LibTorch finds one'),
  dtype: z
    .enum(['float32', 'float16', 'bfloat16'])
    .optional()
    .describe('precision of the models; default: float32 on the CPU, float16 on a GPU'),
  threads: count.optional().describe('CPU threads of LibTorch; default: all cores'),
};

/**
 * With every default filled in.
 * @param places where options were written, `run.yaml:3:16`, of those that came from a file
 * @throws ConfigError that names every option at fault, what it takes and what it got
 */
export function resolveOptions<S extends z.ZodObject>(
  schema: S,
  options: unknown,
  places?: ReadonlyMap<string, string>,
): z.output<S> {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') {
      // Those of an option's own parts have other names beside them.
      const known = issue.path.length === 0 ? Object.keys(schema.shape) : [];
      return issue.keys.map((key) => `Unknown option ${key}${suggestion(key, known)}`).join('\n');
    }
    const key = String(issue.path[0]);
    const value = (options as Record<string, unknown>)[key];
    const description = schema.shape[key]?.description ?? '';
    if (value === undefined) return `${flagOf(key)} (${key}) is required: ${description}`;
    const place = places?.get(key);
    return `Expected ${flagOf(key)} (${key}) to be right${place === undefined ? '' : ` in ${place}`} but received ${shown(value)}: ${issue.message}`;
  });
  throw new ConfigError(faults.join('\n'));
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

/** As JSON; the bytes of a picture are left out. */
function shown(value: unknown): string {
  return JSON.stringify(value, (_, part) => (part instanceof Uint8Array ? `${part.length} bytes` : part));
}
