/** @file Prompts from a file: text with one a line, or JSON Lines with any options of a prompt. */
import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { isJsonObject } from '../base/json.js';
import { regularFile } from '../base/regular-file.js';
import { optionOf, resolveAliases } from './aliases.js';
import { suggestion } from './options.js';
import { camelKeys } from './options-file.js';

/**
 * Returns the options of each prompt of a file. In text, each line is a prompt, and empty lines are left out. In JSON Lines
 * (`.jsonl`, `.ndjson`) each line is an object of options, such as `{"prompt": "a cat", "seed": 3}`, or a string. Values are not
 * checked.
 * @param schema of the options that a line may have
 * @throws ConfigError with file and line where a line is no such thing, or the file has no prompt
 */
export function readPrompts(file: string, schema: z.ZodObject): Record<string, unknown>[] {
  let text: string;
  try {
    text = readFileSync(regularFile(file), 'utf8');
  } catch (cause) {
    throw new ConfigError(
      `Expected a file of prompts at ${file} but it cannot be read: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  const isJson = /\.(jsonl|ndjson)$/i.test(file);
  const prompts = text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .flatMap((line, i) => {
      if (line.trim() === '') return [];
      return [isJson ? optionsIn(line, `${file}:${i + 1}`, schema) : { prompt: line.trim() }];
    });
  if (prompts.length === 0)
    throw new ConfigError(`Expected a prompt in each line of ${file} but it is empty`);
  return prompts;
}

function optionsIn(line: string, place: string, schema: z.ZodObject): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new ConfigError(`Expected JSON at ${place} but ${(cause as Error).message}`, { cause });
  }
  if (typeof value === 'string') return { prompt: value };
  if (!isJsonObject(value))
    throw new ConfigError(`Expected an object such as {"prompt": "a cat"} at ${place} but received ${line}`);
  const options = camelKeys(value) as Record<string, unknown>;
  const known = Object.keys(schema.shape);
  for (const key of Object.keys(options))
    if (!known.includes(optionOf(schema, key).option))
      throw new ConfigError(`Unknown option ${key} at ${place}${suggestion(key, known)}`);
  return resolveAliases(schema, options, (name) => `${name} at ${place}`);
}
