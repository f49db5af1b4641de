/** @file The text encoder gets captions with their prefix: a run is the same as with the prefix written into the captions. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { Recorder } from '../../test/recorder.js';
import { train } from './train.js';

let world: World;
const at = (...names: string[]): string => join(world.root, ...names);

/** An empty one, and two of which one is drawn for each epoch. */
const captions = [['a cat'], [''], ['a dog', 'a big dog']];
const written = [['photo of a cat'], ['photo of'], ['photo of a dog', 'photo of a big dog']];

beforeAll(async () => {
  world = await makeWorld(3);
  for (const [name, texts] of Object.entries({ plain: captions, written }))
    writeFileSync(
      at(`${name}.json`),
      JSON.stringify(texts.map((text, i) => ({ image_file: `${i}.png`, text }))),
    );
});
afterAll(() => world.remove());

/** Trains a few epochs. Returns the adapter, and how many captions were encoded for the cache. */
async function run(name: string, options: object): Promise<{ adapter: Buffer; encoded: string[] }> {
  const { messages, onEvent } = new Recorder();
  await train(
    {
      ...world.optionsFor(name),
      ...{ batchSize: 3, maxSteps: 4, learningRate: 1e-3, dropImage: 0, dropText: 0, dropBoth: 0 },
      ...options,
    },
    { onEvent },
  );
  const encoded = messages.flatMap((message) => /^Cache of text: complete, (.*)$/.exec(message)?.[1] ?? []);
  return { adapter: readFileSync(at(name, 'checkpoint-4', 'ip_adapter.safetensors')), encoded };
}

it('reaches the text encoder, also where the caption is empty', async () => {
  const { adapter } = await run('prefixed', { dataset: at('plain.json'), captionPrefix: 'photo of' });
  expect(adapter.equals((await run('written', { dataset: at('written.json') })).adapter)).toBe(true);
  expect(adapter.equals((await run('plain', { dataset: at('plain.json') })).adapter)).toBe(false);
});

it('is in the key of the cache: a changed one encodes the text anew, the same one does not', async () => {
  const cached = { cache: 'text', cacheDir: at('cache'), dataset: at('plain.json') };
  const encoded = async (name: string, options: object) =>
    (await run(name, { ...cached, ...options })).encoded.map((text) => text.match(/\d+/g)?.map(Number));
  // The empty caption is also that of dropped text.
  expect(await encoded('cache 1', {})).toEqual([[4]]);
  expect(await encoded('cache 2', { captionPrefix: 'photo of' })).toEqual([[4]]);
  expect(await encoded('cache 3', { captionPrefix: 'drawing of' })).toEqual([[4]]);
  expect(await encoded('cache 4', { captionPrefix: 'photo of' })).toEqual([[0]]);
  expect(await encoded('cache 5', { dataset: at('written.json') })).toEqual([[0]]);
});
