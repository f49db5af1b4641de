/**
 * @file Limits the memory of images that are decoded at the same time. A file of 20 kB can hold 169 megapixels, half a
 * gigabyte of bytes; and many large photos at a time take as much.
 */

/** The limit in bytes. An image that takes more is decoded alone. */
const BUDGET = 512 * 2 ** 20;

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

let taken = 0;
const queue: Waiting[] = [];

/** Runs `work` when `bytes` are free, in the order of the calls, and reserves them until it has ended. */
export async function withinBudget<T>(bytes: number, work: () => Promise<T>): Promise<T> {
  await new Promise<void>((start) => {
    queue.push({ bytes, start });
    startNext();
  });
  try {
    return await work();
  } finally {
    taken -= bytes;
    startNext();
  }
}

function startNext(): void {
  for (let next = queue[0]; next !== undefined; next = queue[0]) {
    if (taken > 0 && taken + next.bytes > BUDGET) return;
    queue.shift();
    taken += next.bytes;
    next.start();
  }
}
