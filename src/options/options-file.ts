/**
 * @file Options in a YAML or JSON file (JSON is YAML): read with the place of each, for errors, and written so that a run
 * can be repeated.
 */
import { readFileSync } from 'node:fs';
import { isMap, isScalar, LineCounter, type Pair, type ParsedNode, parseDocument, stringify } from 'yaml';
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
import { suggestion } from './options.js';

/** What a file says, and where: `run.yaml:3:16`, by the options' names in the library. */
export interface FileOptions {
  options: Record<string, unknown>;
  places: ReadonlyMap<string, string>;
}

/**
 * The options of a file. Names may be written as in the library or as the flags: `trainBatchSize`, `train_batch_size`,
 * `train-batch-size`. Values are not checked yet. Relative paths among them are left as they are: they count from the
 * current directory, as those of flags do.
 * @throws ConfigError with file, line and column where it is no mapping, or a name is unknown or there twice
 */
export function readOptionsFile(file: string, schema: z.ZodObject): FileOptions {
  const lineCounter = new LineCounter();
  const document = parseDocument(readText(file), { lineCounter, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lineCounter.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const [fault] = document.errors;
  if (fault !== undefined)
    throw new ConfigError(`Expected YAML or JSON in ${at(fault.pos[0])} but ${fault.message}`);
  const { contents } = document;
  if (contents === null) return { options: {}, places: new Map() };
  if (!isMap(contents))
    throw new ConfigError(
      `Expected options such as train_batch_size: 8 in ${at(contents.range[0])} but it is no mapping`,
    );

  const content = document.toJS() as Record<string, unknown>;
  const options: Record<string, unknown> = {};
  const places = new Map<string, string>();
  const faults: string[] = [];
  for (const { key, value } of contents.items as Pair<ParsedNode, ParsedNode | null>[]) {
    const place = at(key.range[0]);
    const written = String(isScalar(key) ? key.value : key);
    const name = camelCase(written);
    const before = places.get(name);
    if (!Object.hasOwn(schema.shape, name))
      faults.push(`Unknown option ${written} in ${place}${suggestion(written, Object.keys(schema.shape))}`);
    else if (before !== undefined)
      faults.push(`Expected ${written} once but ${before} has it before ${place}`);
    options[name] = content[written];
    places.set(name, value === null ? place : at(value.range[0]));
  }
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
  return { options, places };
}

/** `train_batch_size` and `train-batch-size` → `trainBatchSize` */
function camelCase(name: string): string {
  return name.replace(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function readText(file: string): string {
  try {
    return readFileSync(regularFile(file), 'utf8');
  } catch (cause) {
    throw new ConfigError(
      `Expected a YAML or JSON file for --config but ${file} cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Options as YAML that `readOptionsFile` reads, with the flags' names; those without a value are left out. */
export function optionsYaml(options: Readonly<Record<string, unknown>>): string {
  const named = Object.entries(options).map(([key, value]) => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ]);
  // Quotes what only older YAML takes for something else: `no`.
  return stringify(Object.fromEntries(named), { compat: 'yaml-1.1' });
}
