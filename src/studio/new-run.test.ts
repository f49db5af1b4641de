import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { checkNewRun, trainFields } from './new-run.js';

const root = mkdtempSync(join(tmpdir(), 'new-run-'));
afterAll(() => rmSync(root, { recursive: true }));
const folders = { runs: root, datasets: [root], models: [root] };
const valid = { model: join(root, 'model'), imageEncoder: 'org/name/folder', dataset: [join(root, 'data')] };

it('takes options within the folders, names on the Hub, and remote shards', () => {
  const dataset = ['https://host.example/{000..009}.tar'];
  expect(checkNewRun('one', valid, folders)).toMatchObject({ options: valid });
  expect(checkNewRun('one', { ...valid, dataset }, folders)).toMatchObject({ options: { dataset } });
});

it('lets no option name a file outside of the folders', () => {
  // Texts that no file is opened by. An option that is not among them must be held within the folders.
  const texts = ['captionPrefix', 'groupBy', 'validationPrompts'];
  const taken = trainFields()
    .filter(({ kind }) => kind === 'text' || kind === 'list')
    .map(({ name, kind }) => ({ name, value: kind === 'list' ? ['/etc/passwd'] : '/etc/passwd' }))
    .filter(({ name, value }) => {
      const checked = checkNewRun('one', { ...valid, [name]: value }, folders);
      return !('errors' in checked && name in checked.errors);
    });
  expect(taken.map(({ name }) => name).sort()).toEqual(texts);
});
