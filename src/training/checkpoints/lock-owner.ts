/** @file The owner of a lock, as JSON in the lock's text, and whether that process is still running. */
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';

const ownerSchema = z.object({
  pid: z.int().min(0),
  host: z.string(),
  /** The start of the process in kernel ticks since boot; missing where the kernel does not provide it (macOS). */
  ticks: z.string().optional(),
  /** The boot id and the PID namespace in which `pid` is valid; missing where the kernel does not provide them. */
  place: z.string().optional(),
  /** When the lock was taken, ISO 8601. */
  since: z.string(),
});

type Owner = z.infer<typeof ownerSchema>;

/** Returns the text for a lock of this process. Each text is unique. */
export function ownLockText(): string {
  return ownerTextOf(process.pid);
}

/** Returns the text for a lock of a process of this host. */
export function ownerTextOf(pid: number): string {
  const owner: Owner = {
    pid,
    host: hostname(),
    ticks: startOf(pid),
    place: placeOf(),
    since: new Date().toISOString(),
  };
  return JSON.stringify({ ...owner, id: randomUUID() });
}

/** Returns the owner in a lock's text; undefined if it is another text. */
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
 * Returns whether the owner of a lock is running. Process ids of another host or container cannot be checked here, and two
 * containers may have the same host name. Such owners are 'unseen': only the lock's sign of life shows whether they run.
 */
export function stateOf({ pid, host, ticks, place }: Owner): 'running' | 'gone' | 'unseen' | 'unknown' {
  const isHere = place === undefined ? host === hostname() : place === placeOf();
  if (!isHere) return place === undefined ? 'unknown' : 'unseen';
  // Process ids are reused: the start time shows whether it is the same process.
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

/** Returns the start time of a process in ticks; undefined if there is no such process, or only a zombie. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
  // The second field, the name, may contain spaces and brackets.
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
