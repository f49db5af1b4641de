/** @file What is checked of a file to write before hours of work that only then write it. */
import { accessSync, constants, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ConfigError } from './errors.js';

/**
 * @param name of the option for the user, such as `--out (out)`
 * @throws ConfigError where the file cannot be written: its folder is missing or read-only, or the name is a folder's
 */
export function assertCanWrite(file: string, name: string): void {
  const folder = dirname(file);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new ConfigError(`Expected a folder for ${name} at ${folder} but there is none`);
  const existing = statSync(file, { throwIfNoEntry: false });
  if (existing?.isDirectory())
    throw new ConfigError(`${name} is ${file}, which is a folder; it must be the name of a file`);
  try {
    accessSync(existing === undefined ? folder : file, constants.W_OK);
  } catch (cause) {
    throw new ConfigError(`${name} is ${file}, which cannot be written: ${(cause as Error).message}`, {
      cause,
    });
  }
}
