import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Queue } from './queue.js';

it('runs one piece after another, and goes on after one that fails', async () => {
  const queue = new Queue();
  const log: string[] = [];
  const piece = (name: string) => async () => {
    log.push(`${name} begins`);
    await setTimeout(2);
    log.push(`${name} ends`);
    if (name === 'b') throw new Error(name);
    return name;
  };
  const results = await Promise.allSettled(['a', 'b', 'c'].map((name) => queue.run(piece(name))));
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(log).toEqual(['a', 'b', 'c'].flatMap((name) => [`${name} begins`, `${name} ends`]));
});

it('ends a wait at once where its signal aborts, and never begins that work', async () => {
  const queue = new Queue();
  const stop = new AbortController();
  let begun = false;
  const first = queue.run(() => setTimeout(20, 'first'));
  const second = queue.run(async () => {
    begun = true;
  }, stop.signal);
  const order: string[] = [];
  const both = [first.then(() => order.push('first')), second.catch((error) => order.push(error.message))];
  stop.abort(new Error('enough'));
  await Promise.all(both);
  expect(order).toEqual(['enough', 'first']);
  expect(begun).toBe(false);
});

it('waits for running work to end by itself where its signal aborts', async () => {
  const queue = new Queue();
  const stop = new AbortController();
  let hasEnded = false;
  const running = queue.run(async (signal) => {
    await setTimeout(10);
    hasEnded = true;
    signal.throwIfAborted();
  }, stop.signal);
  await setTimeout(1);
  stop.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  expect(hasEnded).toBe(true);
});

it('closes: running work is told to end, waiting and later work is refused, then all is released', async () => {
  const queue = new Queue();
  const log: string[] = [];
  const running = queue.run(async (signal) => {
    while (!signal.aborted) await setTimeout(1);
    log.push('ended');
    signal.throwIfAborted();
  });
  const waiting = queue.run(async () => log.push('never'));
  const settled = Promise.allSettled([running, waiting]);
  await setTimeout(3);
  const reason = new Error('closed');
  queue.close(reason, () => log.push('released'));
  expect(log).toEqual([]);
  expect((await settled).map((one) => (one as PromiseRejectedResult).reason)).toEqual([reason, reason]);
  await setTimeout(1);
  expect(log).toEqual(['ended', 'released']);
  await expect(queue.run(async () => 1)).rejects.toBe(reason);
  const idle = new Queue();
  idle.close(reason, () => log.push('at once'));
  expect(log.at(-1)).toBe('at once');
});
