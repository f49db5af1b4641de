import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../e2e/world.js';
import { type Fault, KillSweep } from './kill-sweep.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(4);
});
afterAll(() => world.remove());

it.each<Fault>(['KILL', 'ENOSPC', 'EIO'])(
  '%s at every change of the file system: the resumed run ends as one that nothing happened to',
  async (fault) => {
    const sweep = new KillSweep(world);
    const changes = await sweep.changes();
    expect(changes.length).toBeGreaterThan(50);
    const failures: string[] = [];
    for (const change of changes)
      await sweep.check(change, fault).catch((error: Error) => {
        // At once: the whole takes an hour.
        console.error(error.message);
        failures.push(error.message);
      });
    expect(failures).toEqual([]);
  },
  3_600_000,
);
