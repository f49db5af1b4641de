/**
 * @file How much memory this process may use: a container or a batch system often allows less than the machine has.
 * Linux control groups, version 1 (Documentation/admin-guide/cgroup-v1/memory.rst of the kernel) and 2 (cgroup-v2.rst).
 */
import { existsSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';

export interface MemoryLimit {
  /** The bytes that the group may use. */
  bytes: number;
  /** The file with the bytes that it uses now, file pages included. */
  usageFile: string;
  /** The file that says how many of them are file pages, which the kernel can drop. */
  statFile: string;
}

const layouts = {
  1: { mount: 'sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes' },
  2: { mount: 'sys/fs/cgroup', limit: 'memory.max', usage: 'memory.current' },
} as const;

/**
 * Returns the tightest limit among this process's control group and the groups around it; null where the machine's
 * memory is the only limit.
 * @param root the folder that holds proc/ and sys/
 */
export function memoryLimit(root = '/'): MemoryLimit | null {
  const groups = readIfExists(join(root, 'proc/self/cgroup')) ?? '';
  let tightest: MemoryLimit | null = null;
  for (const line of groups.split('\n')) {
    const [, hierarchy = '', controllers = '', group = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    const isVersion1 = controllers.split(',').includes('memory');
    if (!isVersion1 && hierarchy !== '0') continue;
    const { mount, limit, usage } = layouts[isVersion1 ? 1 : 2];
    const top = join(root, mount);
    // A container sees its own group as the top, while the path may be the host's.
    for (let folder = join(top, group); folder.startsWith(top); folder = dirname(folder)) {
      const bytes = Number(readIfExists(join(folder, limit)) ?? Number.NaN);
      // "max", and version 1's huge number for none, are no limits.
      if (Number.isNaN(bytes) || bytes >= Math.min(totalmem(), tightest?.bytes ?? Number.POSITIVE_INFINITY))
        continue;
      tightest = { bytes, usageFile: join(folder, usage), statFile: join(folder, 'memory.stat') };
    }
  }
  return tightest;
}

function readIfExists(file: string): string | null {
  return existsSync(file) ? readFileSync(file, 'utf8') : null;
}
