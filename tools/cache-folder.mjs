/** @file The user's cache: built addons, and what `ip-adapter install-torch` has installed. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Returns the folder of the cache: $IP_ADAPTER_CACHE, else one in the user's cache folder. */
export function cacheFolder(env = process.env) {
  if (env.IP_ADAPTER_CACHE) return env.IP_ADAPTER_CACHE;
  if (process.platform === 'darwin') return join(homedir(), 'Library/Caches/ip-adapter');
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ip-adapter');
}

/** Returns the folder of installed LibTorchs. Its file `current` has the name of the folder in it that is used. */
export function libTorchFolder(env = process.env) {
  return join(cacheFolder(env), 'libtorch');
}
