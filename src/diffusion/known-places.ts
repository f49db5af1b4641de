/**
 * @file Where this user's files are, by their fingerprints. Images are shown to others, so that they name a file without its
 * folder; this list in the user's cache finds it again on the same machine.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomically } from '../base/atomic-file.js';
import { isSystemError } from '../base/errors.js';
import { fingerprintOf } from '../base/fingerprint.js';
import { isJsonObject } from '../base/json.js';
import { makeFolder } from '../base/make-folder.js';
import { cacheHome } from '../hub/cache-entries.js';

/** The list keeps the newest. */
const MAX_PLACES = 1000;

/** Remembers absolute paths by fingerprint. Where the cache cannot be written, they are to be given again. */
export function rememberPlaces(paths: ReadonlyMap<string, string>): void {
  const places = readPlaces();
  const isKnown = ([fingerprint, path]: [string, string]): boolean => places.get(fingerprint) === path;
  if ([...paths].every(isKnown)) return;
  for (const [fingerprint, path] of paths) {
    places.delete(fingerprint);
    places.set(fingerprint, path);
  }
  const newest = [...places].slice(-MAX_PLACES);
  try {
    makeFolder(cacheHome());
    writeFileAtomically(placesFile(), (append) =>
      append(Buffer.from(JSON.stringify(Object.fromEntries(newest)))),
    );
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

/** Returns where the file or folder with a fingerprint is; undefined where it is not known, or has changed. */
export function knownPlace(fingerprint: string): string | undefined {
  const path = readPlaces().get(fingerprint);
  return path !== undefined && existsSync(path) && fingerprintOf(path) === fingerprint ? path : undefined;
}

function readPlaces(): Map<string, string> {
  try {
    const places: unknown = JSON.parse(readFileSync(placesFile(), 'utf8'));
    const entries = Object.entries(isJsonObject(places) ? places : {});
    return new Map(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
  } catch (error) {
    // There is none yet, or it is damaged: what it knew is to be given again.
    if (isSystemError(error) || error instanceof SyntaxError) return new Map();
    throw error;
  }
}

function placesFile(): string {
  return join(cacheHome(), 'places.json');
}
