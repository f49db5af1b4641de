/** @file A list of known places (src/diffusion/known-places.ts) for one test alone. */
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { vi } from 'vitest';
import { cacheHome } from '../../src/hub/cache-entries.js';

/**
 * Gives a test a list of known places of its own: worlds of tests that run at the same time have the same files, and an image
 * would be restored with those of another. Everything else in the cache is shared.
 */
export function useOwnPlaces(root: string): void {
  const folder = join(root, 'cache');
  mkdirSync(folder);
  const shared = cacheHome();
  for (const name of readdirSync(shared))
    if (name !== 'places.json') symlinkSync(join(shared, name), join(folder, name));
  vi.stubEnv('IP_ADAPTER_CACHE', folder);
}
