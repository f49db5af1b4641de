/** @file What every command that writes a file makes sure of before it works for it. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ConfigError } from '../base/errors.js';

/**
 * @param name what the user knows the file as, such as `--out (out)`
 * @throws ConfigError where there is no folder for the file
 */
export function assertFolderFor(file: string, name: string): void {
  const folder = dirname(file);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new ConfigError(`Expected a folder for ${name} at ${folder} but there is none`);
}
