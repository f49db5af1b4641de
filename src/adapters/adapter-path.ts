/** @file Where the file of an adapter is that a user names. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { resolveModelPath } from '../hub/cache.js';

/** The adapter's file in a checkpoint folder. */
export const adapterFile = 'ip_adapter.safetensors';

/** The file of an adapter that a user names: a checkpoint's, or itself. @throws CheckpointError as resolveModelPath */
export function adapterFileOf(nameOrPath: string): string {
  const path = resolveModelPath(nameOrPath);
  return statSync(path).isDirectory() ? join(path, adapterFile) : path;
}
