import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { forEachConcurrently } from './concurrently.js';

it('processes every item once, with limited concurrency', async () => {
  const seen: [string, number][] = [];
  let running = 0;
  let maxRunning = 0;
  await forEachConcurrently('abcdefg', 3, async (item, index) => {
    maxRunning = Math.max(maxRunning, ++running);
    await setTimeout(index % 2);
    seen.push([item, index]);
    running--;
  });
  expect(seen.sort(([, a], [, b]) => a - b)).toEqual([...'abcdefg'].map((item, index) => [item, index]));
  expect(maxRunning).toBe(3);
});

it('stops at the first failure, and on a signal', async () => {
  const items = Array.from({ length: 100 }, (_, i) => i);
  const abort = new AbortController();
  const failure = new Error('no');
  for (const [stop, reason] of [
    [() => Promise.reject(failure), failure],
    [async () => abort.abort(failure), failure],
  ] as const) {
    const done: number[] = [];
    const work = async (item: number) => {
      await setTimeout(1);
      done.push(item);
      if (item === 5) await stop();
    };
    await expect(forEachConcurrently(items, 2, work, abort.signal)).rejects.toBe(reason);
    await setTimeout(20);
    expect(done.length).toBeLessThan(9);
  }
});
