/** @file Where the file of an adapter is that a user names. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { resolveModelPath } from '../hub/cache.js';
import { trainingCheckpointFiles } from './training-checkpoint.js';

/** The adapter's file in a checkpoint folder. */
export const adapterFile = 'ip_adapter.safetensors';

/** The file of an adapter that a user names: in a checkpoint folder, of ours or of the original's training, or itself. @throws CheckpointError as resolveModelPath */
export function adapterFileOf(nameOrPath: string): string {
  const path = resolveModelPath(nameOrPath);
  if (!statSync(path).isDirectory()) return path;
  const names = [adapterFile, ...trainingCheckpointFiles];
  return join(path, names.find((name) => existsSync(join(path, name))) ?? adapterFile);
}
