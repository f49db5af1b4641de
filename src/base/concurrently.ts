/** @file Processes many items with limited concurrency. */

/**
 * Calls `work` with each item and its index, `limit` at a time, and resolves when all have finished. After a failure no
 * further items are started.
 * @throws the first failure, or the signal's reason if it is aborted
 */
export async function forEachConcurrently<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T, index: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  // All loops share one generator; a loop that throws closes it for the others.
  const queue = entries(items);
  const processQueue = async (): Promise<void> => {
    for (const [index, item] of queue) {
      signal?.throwIfAborted();
      await work(item, index);
    }
  };
  await Promise.all(Array.from({ length: limit }, processQueue));
}

function* entries<T>(items: Iterable<T>): Generator<[index: number, item: T]> {
  let index = 0;
  for (const item of items) yield [index++, item];
}
