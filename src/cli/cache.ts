/** @file `ip-adapter cache`: shows what the caches hold, and deletes what has not been used for long, or is too much. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { ConfigError } from '../base/errors.js';
import { formatBytes } from '../base/format-bytes.js';
import {
  type CacheEntry,
  deleteEntry,
  encodingEntries,
  pathsInUse,
  sharedEntries,
} from '../hub/cache-entries.js';
import { isLocked } from '../training/checkpoints/run-lock.js';

const DAY_MS = 86_400_000;
/** What was used so recently stays, since a process on another machine may be using it. */
const RECENT_MS = 3_600_000;

interface PruneFlags {
  olderThan?: string | undefined;
  maxSize?: string | undefined;
  kind?: string[] | undefined;
  yes?: true | undefined;
  dryRun?: true | undefined;
}

const foldersHelp = 'output folders of train, or folders of --cache-dir, whose encodings are meant too';

export function cacheCommand(): Command {
  return new Command('cache')
    .description('Show or delete what is cached: models of the Hub, remote shards, encodings of --cache.')
    .addCommand(
      new Command('list')
        .description('List cached models of the Hub, remote shards and encodings, with size and last use.')
        .argument('[folder...]', foldersHelp)
        .action((folders) => {
          const entries = entriesOf(folders);
          for (const entry of entries) process.stdout.write(`${lineOf(entry)}\n`);
          process.stdout.write(`${formatBytes(sizeOf(entries))} in ${entries.length}\n`);
        }),
    )
    .addCommand(
      new Command('prune')
        .description('Delete what has not been used for long, or is too much; never what a process has open.')
        .argument('[folder...]', foldersHelp)
        .option('--older-than <days>', 'delete what was last used before so many days')
        .option('--max-size <GB>', 'delete what was used the longest ago, until so many GB are left')
        .option('--kind <kind...>', 'only these: model, shard, encodings')
        .option('--dry-run', 'show what would be deleted, and delete nothing')
        .option('--yes', 'delete; without it nothing is deleted')
        .action((folders, flags) => prune(folders, flags)),
    ) as unknown as Command;
}

function prune(folders: readonly string[], { olderThan, maxSize, kind, yes, dryRun }: PruneFlags): void {
  if (olderThan === undefined && maxSize === undefined)
    throw new ConfigError('cache prune needs --older-than or --max-size, which say what to delete');
  const days = amountOf('--older-than', olderThan);
  const limit = amountOf('--max-size', maxSize);
  const wrong = kind?.find((one) => !['model', 'shard', 'encodings'].includes(one));
  if (wrong !== undefined) throw new ConfigError(`--kind is ${wrong}; it must be model, shard or encodings`);

  const entries = entriesOf(folders).filter((entry) => kind?.includes(entry.kind) ?? true);
  const now = Date.now();
  let left = sizeOf(entries);
  const chosen = entries
    .toSorted((a, b) => a.lastUsed - b.lastUsed)
    .filter(({ lastUsed, bytes }) => {
      const isChosen = now - lastUsed > days * DAY_MS || left > limit * 1e9;
      if (isChosen) left -= bytes;
      return isChosen;
    });
  const used = pathsInUse(chosen.map(({ path }) => path));
  let freed = 0;
  const isDeleting = yes === true && dryRun !== true;
  for (const entry of chosen) {
    const reason = used.has(entry.path)
      ? 'in use'
      : now - entry.lastUsed < RECENT_MS
        ? 'used in the last hour'
        : '';
    process.stdout.write(`${lineOf(entry)}${reason === '' ? '' : `  stays: ${reason}`}\n`);
    if (reason !== '') continue;
    freed += entry.bytes;
    if (isDeleting) deleteEntry(entry);
  }
  const done = isDeleting ? 'deleted' : 'would be deleted; give --yes to delete it';
  process.stdout.write(`${formatBytes(freed)} ${done}\n`);
}

function entriesOf(folders: readonly string[]): CacheEntry[] {
  const missing = folders.find((folder) => !existsSync(folder));
  if (missing !== undefined) throw new ConfigError(`There is no folder ${missing}`);
  // A running training holds its folder.
  const own = folders.filter((folder) => ![folder, join(folder, '..')].some(isLocked));
  for (const folder of folders.filter((one) => !own.includes(one)))
    process.stderr.write(`${folder} is left out: a training runs there\n`);
  return [...sharedEntries(), ...own.flatMap(encodingEntries)];
}

/** @throws ConfigError where it is not a number, at least 0 */
function amountOf(flag: string, text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (text.trim() !== '' && Number(text) >= 0) return Number(text);
  throw new ConfigError(`${flag} is ${text}; it must be a number, at least 0`);
}

function sizeOf(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function lineOf({ kind, path, bytes, lastUsed }: CacheEntry): string {
  const day = new Date(lastUsed).toISOString().slice(0, 10);
  return `${kind.padEnd(10)}${formatBytes(bytes).padStart(10)}  ${day}  ${path}`;
}
