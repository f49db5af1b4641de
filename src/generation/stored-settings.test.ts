import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { JsonObject } from '../base/json.js';
import { torchVersion } from '../torch/index.js';
import { compareFiles, locatedOptions, type StoredSettings, storedSettings } from './stored-settings.js';

let root: string;
beforeEach(() => {
  // Loads the addon, which is in the cache.
  torchVersion();
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-settings-'));
  vi.stubEnv('IP_ADAPTER_CACHE', join(root, 'cache'));
  for (const name of ['model', 'adapter', 'cat.png', 'mask.png']) writeFileSync(at(name), name);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

const at = (name: string): string => join(root, name);
const options = () => ({
  prompt: `a cat in ${at('prompt')}`,
  model: at('model'),
  adapters: [{ adapter: at('adapter'), images: [at('cat.png'), 'relative.png'], masks: [at('mask.png')] }],
  loras: [{ path: at('gone'), scale: 0.5 }],
});
const store = (): StoredSettings =>
  JSON.parse(storedSettings(options(), [0, 1], { device: 'cpu', dtype: 'float32' }));
const compare = (stored: StoredSettings, changed: JsonObject = {}): string[] =>
  compareFiles(stored, { ...locatedOptions(stored), ...changed }, (place) => place);

it('names files without the folders that they are in, and finds them again on this machine', () => {
  const stored = store();
  expect(stored.options).toEqual({
    prompt: `a cat in ${at('prompt')}`,
    model: { elsewhere: 'model' },
    adapters: [
      {
        adapter: { elsewhere: 'adapter' },
        images: [{ elsewhere: 'cat.png' }, 'relative.png'],
        masks: [{ elsewhere: 'mask.png' }],
      },
    ],
    loras: [{ path: { elsewhere: 'gone' }, scale: 0.5 }],
  });
  expect(locatedOptions(stored)).toEqual({ ...options(), loras: stored.options.loras });
  expect(() => compare(stored)).toThrow(
    'made with files that were elsewhere, and this machine does not know where: loras[0].path (gone); give',
  );
  expect(compare(stored, { loras: [] })).toEqual([]);
});

it('takes no file that has changed, or another of the same name', () => {
  const stored = store();
  writeFileSync(at('cat.png'), 'another cat');
  renameSync(at('model'), at('moved'));
  expect(() => compare(stored, { loras: [] })).toThrow(
    /where: adapters\[0\]\.images\[0\] \(cat\.png\), model/,
  );
  const [adapter] = locatedOptions(stored).adapters as [JsonObject];
  const given = { adapters: [{ ...adapter, images: [at('cat.png')] }], model: at('moved'), loras: [] };
  expect(compare(stored, given)).toEqual([
    expect.stringMatching(/^Changed since .*adapters\[0\]\.images\[0\] \(.*cat\.png\)$/),
  ]);
});

it('asks for all files where the list of places is damaged or belongs to another', () => {
  const stored = store();
  const list = join(root, 'cache', 'places.json');
  expect(Object.values(JSON.parse(readFileSync(list, 'utf8')))).toContain(at('cat.png'));
  for (const damage of ['{"', '[]', '{"a": 1}']) {
    writeFileSync(list, damage);
    expect(locatedOptions(stored)).toEqual(stored.options);
    expect(() => compare(stored)).toThrow(/cat\.png.*mask\.png/);
  }
  store();
  expect(locatedOptions(stored)).not.toEqual(stored.options);
});
