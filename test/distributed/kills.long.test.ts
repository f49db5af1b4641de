/** @file Two processes, one of which is killed at every change of the file system. */
import { expect, it } from 'vitest';
import { makeWorld } from '../e2e/world.js';
import { changesOf, killAt } from './kill-sweep.js';

it('the resumed run ends as one that nothing happened to', async () => {
  const world = await makeWorld(6);
  try {
    const byNumber = new Map((await changesOf(world)).map((change) => [change.number, change]));
    expect(byNumber.size).toBeGreaterThan(30);
    const failures: string[] = [];
    for (const change of byNumber.values())
      await killAt(world, change).catch((error: Error) => void failures.push(error.message));
    expect(failures).toEqual([]);
  } finally {
    world.remove();
  }
});
