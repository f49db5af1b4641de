/** @file The process that holds a lock, as the lock's text says it, and whether it still runs. */
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';

const ownerSchema = z.object({
  pid: z.int().min(0),
  host: z.string(),
  /** Start of the process, in the kernel's ticks since boot; missing where the kernel does not tell (macOS). */
  ticks: z.string().optional(),
  /** The boot and the PID namespace in which `pid` means something; missing where the kernel does not tell. */
  place: z.string().optional(),
  /** When the lock was taken, ISO 8601. */
  since: z.string(),
});

type Owner = z.infer<typeof ownerSchema>;

/** The text of a lock of this process. No two are the same. */
export function ownLockText(): string {
  const owner: Owner = {
    pid: process.pid,
    host: hostname(),
    ticks: startOf(process.pid),
    place: placeOf(),
    since: new Date().toISOString(),
  };
  return JSON.stringify({ ...owner, id: randomUUID() });
}

/** Returns what a lock's text says of its owner; undefined where it is not such a text. */
export function parseOwner(text: string): Owner | undefined {
  try {
    return ownerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

export function describeOwner({ pid, host, since }: Owner): string {
  return `process ${pid} on ${host}, since ${since}`;
}

/**
 * Tells whether a lock's owner runs. Process ids of another host or container mean nothing here, and two containers may
 * have the same host name: there only the lock's own sign of life can tell, which `unseen` has.
 */
export function stateOf({ pid, host, ticks, place }: Owner): 'running' | 'gone' | 'unseen' | 'unknown' {
  const isHere = place === undefined ? host === hostname() : place === placeOf();
  if (!isHere) return place === undefined ? 'unknown' : 'unseen';
  // Process ids are used again: the start tells whether it is the same process.
  const isRunning = ticks === undefined ? exists(pid) : startOf(pid) === ticks;
  return isRunning ? 'running' : 'gone';
}

function placeOf(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return undefined;
  }
}

/** When a process was started; undefined where there is none of that id. One that waits to be reaped is none. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
  // The second field, the name, may have spaces and brackets in it.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' ? undefined : fields[18];
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
