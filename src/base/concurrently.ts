/** @file Work on many items, some of them at the same time. */

/**
 * Calls `work` with each item and its index, `limit` at a time, and returns when all have ended. The first failure ends
 * it, with what is in hand.
 * @throws the first failure; the signal's reason when it is aborted
 */
export async function forEachConcurrently<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T, index: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  // All take from one generator, which the first that throws out of its loop closes for the others too.
  const queue = entries(items);
  const take = async (): Promise<void> => {
    for (const [index, item] of queue) {
      signal?.throwIfAborted();
      await work(item, index);
    }
  };
  await Promise.all(Array.from({ length: limit }, take));
}

function* entries<T>(items: Iterable<T>): Generator<[index: number, item: T]> {
  let index = 0;
  for (const item of items) yield [index++, item];
}
