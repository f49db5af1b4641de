/**
 * @file What the caches hold: encodings of `--cache`, models of the Hub's cache, remote shards. Read from the folders alone, so that what other
 * versions have written is seen too.
 */
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join, sep } from 'node:path';
import { cacheFolder } from './cache.js';

export interface CacheEntry {
  kind: 'encodings' | 'model' | 'shard';
  /** A folder or a file, which is deleted as a whole. */
  path: string;
  /** On disk, without what links lead to. */
  bytes: number;
  /** When a file of it was last read or written, in ms since 1970; file systems note reads once a day, or not at all. */
  lastUsed: number;
}

/** Returns the folder that built addons are in, too: $IP_ADAPTER_CACHE, or `ip-adapter` in the user's cache folder. */
export function cacheHome(env = process.env): string {
  return env.IP_ADAPTER_CACHE ?? join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ip-adapter');
}

/** Returns the folder of remote shards. */
export function shardCache(env = process.env): string {
  return join(cacheHome(env), 'shards');
}

/** Returns the models of the Hub's cache, and the remote shards with their lists. */
export function sharedEntries(): CacheEntry[] {
  const models = pathsIn(cacheFolder()).filter(
    (path) => /models--[^/]+--[^/]+$/.test(path) && isFolder(path),
  );
  const shards = pathsIn(shardCache()).filter((path) => lstatSync(path).isFile());
  return [...models.map((path) => entryOf('model', path)), ...shards.map((path) => entryOf('shard', path))];
}

/** Returns the encodings in a folder: a `--cache-dir`, or the output folder of a run, whose `cache` they are in. */
export function encodingEntries(folder: string): CacheEntry[] {
  return (
    [folder, join(folder, 'cache')]
      .flatMap(pathsIn)
      .filter((path) => /\/(latents|text|image)-[^/]+$/.test(path) && isFolder(path))
      // Another folder may have such a name.
      .filter((path) => pathsIn(path).every((file) => /\.safetensors[^/]*$/.test(file)))
      .map((path) => entryOf('encodings', path))
  );
}

/**
 * Returns those of the paths in which a process of this machine has a file open or mapped. Only Linux tells; elsewhere none is returned.
 */
export function pathsInUse(paths: readonly string[]): Set<string> {
  const real = paths.map((path) => [path, realpathSync(path)] as const);
  const used = new Set<string>();
  const files = pathsIn('/proc')
    .filter((path) => /\/\d+$/.test(path))
    .flatMap(openFiles);
  for (const file of new Set(files))
    for (const [path, resolved] of real)
      if (file === resolved || file.startsWith(resolved + sep)) used.add(path);
  return used;
}

/** Deletes an entry. */
export function deleteEntry({ path }: CacheEntry): void {
  rmSync(path, { recursive: true });
}

/** The files that a process has open or mapped; none where it has ended, or is another user's. */
function openFiles(process: string): string[] {
  try {
    const mapped = readFileSync(join(process, 'maps'), 'utf8').matchAll(/ (\/.+)$/gm);
    const open = pathsIn(join(process, 'fd')).flatMap((link) => targetOf(link) ?? []);
    return [...Array.from(mapped, ([, file]) => file as string), ...open];
  } catch {
    return [];
  }
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    // Closed meanwhile.
    return undefined;
  }
}

function entryOf(kind: CacheEntry['kind'], path: string): CacheEntry {
  const entry = { kind, path, bytes: 0, lastUsed: 0 };
  const visit = (file: string): void => {
    const status = lstatSync(file);
    if (status.isDirectory()) {
      for (const child of pathsIn(file)) visit(child);
      return;
    }
    entry.bytes += status.size;
    entry.lastUsed = Math.max(entry.lastUsed, status.atimeMs, status.mtimeMs);
  };
  visit(path);
  return entry;
}

function isFolder(path: string): boolean {
  return lstatSync(path).isDirectory();
}

function pathsIn(folder: string): string[] {
  return existsSync(folder)
    ? readdirSync(folder)
        .sort()
        .map((name) => join(folder, name))
    : [];
}
