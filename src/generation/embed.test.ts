import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import type { RunEvent } from '../base/run-context.js';
import { readSafetensors } from '../formats/index.js';
import { memoryStats } from '../torch/index.js';
import { embed } from './embed.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

let world: Adapted;
beforeAll(async () => {
  world = await makeAdaptedWorld();
});
afterAll(() => world.remove());

const optionsFor = (name: string) => ({
  imageEncoder: world.imageEncoder,
  images: [0, 1, 2].map(world.picture),
  out: join(world.root, name),
});

it('writes a row for each image, the same as if it were encoded alone', async () => {
  const events: RunEvent[] = [];
  const options = optionsFor('all.safetensors');
  await embed(options, { onEvent: (event) => events.push(event) });
  const all = readSafetensors(options.out).tensors;
  const alone = {
    ...options,
    images: [options.images[2] as string],
    out: join(world.root, 'one.safetensors'),
  };
  await embed(alone);
  const one = readSafetensors(alone.out).tensors;
  for (const key of ['hidden_states', 'image_embeds']) {
    expect(all.get(key)?.shape[0]).toBe(3);
    expect(all.get(key)?.split(1)[2]?.toArray()).toEqual(one.get(key)?.toArray());
  }
  expect(events).toEqual([1, 2, 3].map((done) => ({ v: 1, type: 'progress', done, total: 3 })));
});

it('stops after the image under way, writes nothing and keeps no tensor', async () => {
  const options = optionsFor('stopped.safetensors');
  const abort = new AbortController();
  const seen: number[] = [];
  const before = memoryStats().liveTensors;
  const onEvent = (event: RunEvent): void => {
    if (event.type !== 'progress') return;
    seen.push(event.done);
    abort.abort(new Error('enough'));
  };
  await expect(embed(options, { signal: abort.signal, onEvent })).rejects.toThrow('enough');
  expect(seen).toEqual([1]);
  expect(existsSync(options.out)).toBe(false);
  expect(memoryStats().liveTensors).toBe(before);
});

it('names a file that is no image before it encodes the others', async () => {
  const options = optionsFor('never.safetensors');
  const file = join(world.root, 'page.png');
  writeFileSync(file, '<html></html>');
  let encoded = 0;
  const embedding = embed({ ...options, images: [...options.images, file] }, { onEvent: () => encoded++ });
  await expect(embedding).rejects.toThrow('page.png');
  expect(encoded).toBe(0);
});
