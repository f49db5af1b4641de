/**
 * @file Reads options from a YAML or JSON file (JSON is YAML) with the place of each, for errors, and writes them, so that a
 * run can be repeated.
 */
import { readFileSync } from 'node:fs';
import {
  type Document,
  isMap,
  isScalar,
  LineCounter,
  type Pair,
  type ParsedNode,
  parseDocument,
  stringify,
} from 'yaml';
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
import { aliasesOf } from './aliases.js';
import { suggestion } from './options.js';

/** The options of a file and their places, by name or alias in camelCase. */
export interface FileOptions {
  options: Record<string, unknown>;
  /** The option as it is written in the file, with its place: 'batch_size in run.yaml:3:16'. */
  places: ReadonlyMap<string, string>;
}

/**
 * Returns the options of a file. Names may be written `batchSize`, `batch_size` or `batch-size`, and may be aliases. Values
 * are not checked yet. Relative paths stay as they are: like those of flags, they are relative to the current directory.
 * @throws ConfigError with file, line and column where it is not a mapping, or a name is unknown or given twice
 */
export function readOptionsFile(file: string, schema: z.ZodObject): FileOptions {
  const lineCounter = new LineCounter();
  const text = readText(file);
  const at = (offset: number): string => {
    const { line, col } = lineCounter.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const document = parse(text, lineCounter, file);
  const [fault] = document.errors;
  if (fault !== undefined) throw new ConfigError(`${at(fault.pos[0])} is not YAML or JSON: ${fault.message}`);
  const { contents } = document;
  if (contents === null) return { options: {}, places: new Map() };
  if (!isMap(contents))
    throw new ConfigError(
      `${at(contents.range[0])} is not a mapping; it must have options such as batch_size: 8`,
    );

  const known = new Set([...Object.keys(schema.shape), ...aliasesOf(schema).map(([name]) => name)]);
  const options: [string, unknown][] = [];
  const places = new Map<string, string>();
  const faults: string[] = [];
  for (const { key, value } of contents.items as Pair<ParsedNode, ParsedNode | null>[]) {
    const place = at(key.range[0]);
    const written = isScalar(key)
      ? String(key.value)
      : text.slice(...(key.range.slice(0, 2) as [number, number]));
    const name = camelCase(written);
    const other = places.get(name);
    if (!known.has(name))
      faults.push(`Unknown option ${written} in ${place}${suggestion(written, [...known])}`);
    else if (other !== undefined)
      faults.push(`${other} and ${written} in ${place} are the same option; give one of them`);
    else {
      const valuePlace = value === null ? place : at(value.range[0]);
      options.push([name, contentOf(value, document, `${written} in ${valuePlace}`)]);
      places.set(name, `${written} in ${valuePlace}`);
    }
  }
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
  return { options: Object.fromEntries(options), places };
}

/** @throws ConfigError where the text cannot be parsed, for example because it is nested too deeply */
function parse(text: string, lineCounter: LineCounter, file: string): Document.Parsed {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (cause) {
    throw new ConfigError(`${file} cannot be read as YAML or JSON: ${(cause as Error).message}`, { cause });
  }
}

/** @throws ConfigError for an alias without an anchor, aliases that expand too far, and a merge of a value that is not a mapping */
function contentOf(value: ParsedNode | null, document: Document, shown: string): unknown {
  try {
    return camelKeys(value?.toJS(document) ?? null);
  } catch (cause) {
    throw new ConfigError(`${shown} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** Returns the value with the keys of all mappings in it in camelCase, such as those in `adapters`. */
export function camelKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [camelCase(key), camelKeys(inner)]));
}

/** `batch_size` and `batch-size` → `batchSize` */
function camelCase(name: string): string {
  return name.replace(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function readText(file: string): string {
  try {
    return readFileSync(regularFile(file), 'utf8');
  } catch (cause) {
    throw new ConfigError(
      `--config is ${file}, which cannot be read: ${(cause as Error).message}; it must be a YAML or JSON file`,
      { cause },
    );
  }
}

/** Returns options as YAML that `readOptionsFile` reads, in snake_case. Options without a value are left out. */
export function optionsYaml(options: Readonly<Record<string, unknown>>): string {
  const named = Object.entries(options).map(([key, value]) => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ]);
  // Quotes words that YAML 1.1 reads as booleans, such as `no`.
  return stringify(Object.fromEntries(named), { compat: 'yaml-1.1' });
}
