/** @file What the code of a run calls, whether it is the run's only process or one of several. */

/** The processes of a run. All of them make the same calls in the same order. See `ProcessGroup` for what the methods do. */
export interface Processes {
  /** 0 … worldSize - 1 */
  readonly rank: number;
  readonly worldSize: number;
  readonly localRank: number;
  readonly localWorldSize: number;
  /** Whether this process is rank 0, which writes files and messages for all. */
  readonly isMain: boolean;
  together<T>(work: () => T | Promise<T>): Promise<T>;
  gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]>;
  gatherJson<T>(value: T): Promise<T[]>;
  agree(numbers: readonly number[]): Promise<number[]>;
  assertSame(values: Readonly<Record<string, unknown>>): Promise<void>;
}

/** A run in one process. */
export const alone: Processes = {
  rank: 0,
  worldSize: 1,
  localRank: 0,
  localWorldSize: 1,
  isMain: true,
  together: async (work) => work(),
  gatherBytes: async (bytes) => [bytes],
  gatherJson: async (value) => [value],
  agree: async (numbers) => [...numbers],
  assertSame: async () => {},
};

/** The number of values that a process works out before it passes them on: rows of shards, about 150 kB for each thousand. */
const ROUND = 16;

/** Runs work at rank 0 only, while the others wait however long it takes. @returns its result, a JSON value, on all ranks */
export async function onMain<T>(processes: Processes, work: () => T | Promise<T>): Promise<T> {
  const result = await processes.together(async () => (processes.isMain ? work() : undefined));
  const [value] = processes.worldSize === 1 ? [result] : await processes.gatherJson(result ?? null);
  return value as T;
}

/**
 * Returns a JSON value for each index below `length`, on all processes; each of them works out some.
 * @param work returns the values of `count` indices, the i-th of which is `indexOf(i)`
 */
export async function sharedOut<T>(
  processes: Processes,
  length: number,
  work: (count: number, indexOf: (i: number) => number) => Promise<T[]>,
): Promise<T[]> {
  const { rank, worldSize } = processes;
  const count = Math.max(0, Math.ceil((length - rank) / worldSize));
  const own = await processes.together(() => work(count, (i) => rank + i * worldSize));
  if (worldSize === 1) return own;
  return inOrder(await processes.gatherJson(own), length);
}

/**
 * Yields a JSON value for each index below `length`, in order, on all processes; each of them works out some. They exchange
 * them every `ROUND` values of each, so that a long list is never in memory as a whole.
 * @param what they are, for the error
 * @param work yields the values of some indices
 * @throws ConfigError where the processes have other lengths
 */
export async function* sharedInRounds<T>(
  processes: Processes,
  length: number,
  what: string,
  work: (indices: readonly number[]) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const { worldSize } = processes;
  await processes.assertSame({ [`number of ${what}`]: length });
  for (let first = 0; first < length; first += ROUND * worldSize) {
    const count = Math.min(ROUND * worldSize, length - first);
    yield* await sharedOut(processes, count, async (ownCount, indexOf) => {
      const own: T[] = [];
      const indices = Array.from({ length: ownCount }, (_, i) => first + indexOf(i));
      for await (const value of work(indices)) own.push(value);
      return own;
    });
  }
}

/** Returns the values of the indices below `length`, from the lists of all processes, the i-th of which has `rank + i · worldSize`. */
export function inOrder<T>(parts: readonly (readonly T[])[], length: number): T[] {
  return Array.from({ length }, (_, i) => parts[i % parts.length]?.[Math.floor(i / parts.length)] as T);
}
