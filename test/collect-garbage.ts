import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');

/** Collects the garbage of V8, which does so by itself at times that depend on how busy the machine is. */
export const collectGarbage: () => void = runInNewContext('gc');

/** Releases the tensors that are garbage. */
export async function releaseGarbage(): Promise<void> {
  collectGarbage();
  // Finalizers run in a task of their own.
  await setImmediate();
}
