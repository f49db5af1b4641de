/** @file The peak memory of processes that a benchmark starts, as Linux counts it. */
import { readFileSync } from 'node:fs';

/**
 * Watches processes until a promise is settled.
 * @param pids returns the processes that run now
 * @returns the GiB that each had in memory at most, in the order in which they were seen
 */
export async function peaksUntil(ended: Promise<unknown>, pids: () => readonly number[]): Promise<number[]> {
  const peaks = new Map<number, number>();
  const watch = setInterval(() => {
    for (const pid of pids()) peaks.set(pid, Math.max(peaks.get(pid) ?? 0, peakOf(pid)));
  }, 100);
  try {
    await ended;
  } finally {
    clearInterval(watch);
  }
  return [...peaks.values()];
}

/** Returns the processes that `--num-processes` has started, by rank. @param pid of the command */
export function ranksOf(pid: number): number[] {
  const ranks: number[] = [];
  for (const child of read(`${pid}/task/${pid}/children`).split(' ').map(Number)) {
    const [, rank] = /\0RANK=(\d+)\0/.exec(read(`${child}/environ`)) ?? [];
    if (rank !== undefined) ranks[Number(rank)] = child;
  }
  return ranks.filter((child) => child !== undefined);
}

// Not the ru_maxrss of a process: it begins with that of the process which started it.
function peakOf(pid: number): number {
  return Number(/VmHWM:\s*(\d+)/.exec(read(`${pid}/status`))?.[1] ?? 0) / 2 ** 20;
}

/** Returns a file in /proc; '' where its process has ended. */
function read(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, 'utf8');
  } catch {
    return '';
  }
}
