/** @file Reading JSON files that hold an object, such as a model's config.json. */
import { readFileSync } from 'node:fs';
import { shown, type UserError } from './errors.js';
import { regularFile } from './regular-file.js';

export type JsonObject = Record<string, unknown>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads a file that holds one JSON object.
 * @param ErrorClass thrown where the file cannot be read or holds anything else; the message names the file
 */
export function readJsonObject(file: string, ErrorClass: new (...args: ErrorArgs) => UserError): JsonObject {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(regularFile(file), 'utf8'));
  } catch (cause) {
    throw new ErrorClass(
      `Expected a JSON object in ${file} but it cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  if (!isJsonObject(json))
    throw new ErrorClass(`Expected a JSON object in ${file} but received ${shown(json)}`);
  return json;
}

type ErrorArgs = [message: string, options?: ErrorOptions];
