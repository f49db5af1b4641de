/** @file Fingerprints of what a user names: a file, a folder, or a model in the Hub's cache. */
import { existsSync } from 'node:fs';
import { UserError } from '../base/errors.js';
import { fingerprintOf } from '../base/fingerprint.js';
import { resolveModelPath } from '../hub/cache.js';

/** Returns the fingerprint, after `hub:` for a name on the Hub; undefined where nothing of that name is on this machine. */
export function fingerprintOfNamed(nameOrPath: string): string | undefined {
  if (existsSync(nameOrPath)) return fingerprintOf(nameOrPath);
  try {
    return `hub:${fingerprintOf(resolveModelPath(nameOrPath))}`;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}
