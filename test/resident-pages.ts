import { readFileSync, realpathSync } from 'node:fs';

/** Returns how much of a mapped file is in this process's resident memory, in KiB, over all of its mappings. */
export function residentOf(path: string): number {
  const maps = readFileSync('/proc/self/smaps', 'utf8');
  const entries = maps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const own = entries.filter((entry) => entry.slice(0, entry.indexOf('\n')).endsWith(realpathSync(path)));
  return own.reduce((sum, entry) => sum + Number(/^Rss: +(\d+) kB/m.exec(entry)?.[1]), 0);
}
