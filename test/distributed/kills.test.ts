/** @file A kill in the filling of a cache, and in a save; kills at every change are in kills.long.test.ts. */
import { expect, it } from 'vitest';
import { makeWorld } from '../e2e/world.js';
import { changesOf, killAt } from './kill-sweep.js';

it('a kill while a cache is filled or a checkpoint is saved: the resumed run ends as one that nothing happened to', async () => {
  const world = await makeWorld(6);
  try {
    const changes = await changesOf(world);
    for (const place of [/cache\/.*safetensors/, /checkpoint-2\.partial\/optimizer/]) {
      const change = changes.find(({ path }) => place.test(path));
      expect(change, String(place)).toBeDefined();
      await killAt(world, change as NonNullable<typeof change>);
    }
  } finally {
    world.remove();
  }
}, 180_000);
