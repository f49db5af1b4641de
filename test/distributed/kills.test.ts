/** @file A kill in the filling of a cache and in a save, and a full disk; kills at every change are in kills.long.test.ts. */
import { expect, it } from 'vitest';
import { makeWorld } from '../e2e/world.js';
import { changesOf, failAt, killAt } from './kill-sweep.js';

it('a kill while a cache is filled or a checkpoint is saved, and a full disk: the resumed run ends as one that nothing happened to', async () => {
  const world = await makeWorld(6);
  try {
    const changes = await changesOf(world);
    const changeOf = (place: RegExp) => {
      const change = changes.find(({ path }) => place.test(path));
      expect(change, String(place)).toBeDefined();
      return change as NonNullable<typeof change>;
    };
    const saving = changeOf(/checkpoint-2\.partial\/optimizer/);
    for (const change of [changeOf(/cache\/.*safetensors/), saving]) await killAt(world, change);
    const { exitCode, stderr } = await failAt(world, saving, 'ENOSPC');
    // As with one process: the others go on with rank 0, which tries again.
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toMatch(/The checkpoint of step 2 could not be written: ENOSPC.*make room on its disk/);
    expect(stderr).toMatch(/Saved \S+checkpoint-3\n/);
  } finally {
    world.remove();
  }
}, 180_000);
