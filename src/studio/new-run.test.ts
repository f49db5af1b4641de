import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { checkNewRun, checkOfNewRun } from './new-run.js';
import { trainFields } from './train-fields.js';

const root = mkdtempSync(join(tmpdir(), 'new-run-'));
afterAll(() => rmSync(root, { recursive: true }));
const folders = { runs: root, datasets: [root], models: [root] };
const valid = { model: join(root, 'model'), imageEncoder: 'org/name/folder', dataset: [join(root, 'data')] };

it('takes options within the folders, names on the Hub, and remote shards', () => {
  const dataset = ['https://host.example/{000..009}.tar'];
  expect(checkNewRun('one', { options: valid }, folders)).toMatchObject({ options: valid });
  expect(checkNewRun('one', { options: { ...valid, dataset } }, folders)).toMatchObject({
    options: { dataset },
  });
});

it('lets no option name a file outside of the folders', () => {
  // Texts that no file is opened by. An option that is not among them must be held within the folders.
  const texts = ['captionPrefix', 'groupBy', 'validationPrompts'];
  const taken = trainFields()
    .filter(({ kind }) => kind === 'text' || kind === 'list')
    .map(({ name, kind }) => ({ name, value: kind === 'list' ? ['/etc/passwd'] : '/etc/passwd' }))
    .filter(({ name, value }) => {
      const checked = checkNewRun('one', { options: { ...valid, [name]: value } }, folders);
      return !('errors' in checked && name in checked.errors);
    });
  expect(taken.map(({ name }) => name).sort()).toEqual(texts);
});

it('takes a preset below the options of the user, and names what is wrong at its field', () => {
  const small = checkNewRun('one', { options: { ...valid, epochs: 3 }, preset: 'small' }, folders);
  expect(small).toMatchObject({ options: { batchSize: 8, saveSteps: 500, learningRate: 5e-5, epochs: 3 } });
  // The user's epochs take the place of the preset's steps.
  expect(small).not.toHaveProperty('options.maxSteps');
  expect(checkNewRun('one', { options: valid, preset: 'fine-tune' }, folders)).toEqual({
    errors: { adapter: expect.stringContaining('fine-tune') },
  });
  expect(checkNewRun('one', { options: valid, preset: 'huge' }, folders)).toEqual({
    errors: { preset: 'must be one of fine-tune, small, large' },
  });
});

it('takes for a dataset check what concerns it, within the folders', () => {
  const { imageEncoder: _, model: __, ...some } = valid;
  const given = { ...some, learning_rate: 'wrong', batch_size: 3 };
  const checked = checkOfNewRun({ options: given }, folders);
  expect(checked).toMatchObject({ options: { batchSize: 3, dataset: some.dataset } });
  expect(checked).not.toHaveProperty('options.show');
  expect(checkOfNewRun({ options: valid, preset: 'small' }, folders)).toMatchObject({
    options: { show: 8, buckets: true },
  });
  const references = { ...valid, groupBy: 'folder', referencesPerRow: 64 };
  expect(checkOfNewRun({ options: references }, folders)).toMatchObject({ options: { show: 1 } });
  const outside = { dataset: '/etc/passwd', datasetRoot: '/etc', model: '/etc', batchSize: 0 };
  expect(checkOfNewRun({ options: { ...outside, batchSize: 1 } }, folders)).toEqual({
    errors: {
      dataset: expect.any(String),
      datasetRoot: expect.any(String),
      model: expect.any(String),
    },
  });
  expect(checkOfNewRun({ options: outside }, folders)).toEqual({ errors: { batchSize: expect.any(String) } });
  expect(checkOfNewRun({ options: {} }, folders)).toEqual({ errors: { dataset: expect.any(String) } });
});
