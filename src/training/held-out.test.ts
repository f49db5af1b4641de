import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withContext } from '../base/run-context.js';
import type { DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { resolveOptions } from '../options/options.js';
import { trainOptionsSchema } from '../options/train-options.js';
import { holdOut } from './held-out.js';

let dir: string;
const at = (...names: string[]): string => join(dir, ...names);
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-held-out-'));
  const put = (name: string, content: string): void => {
    mkdirSync(join(at(name), '..'), { recursive: true });
    writeFileSync(at(name), content);
  };
  // Two things, with two images each. No image is read here.
  const rows = ['rex_1', 'rex_2', 'tom_1', 'tom_2'].map((name) => ({
    image_file: `${name}.png`,
    text: name,
  }));
  put('lists/photos.json', JSON.stringify(rows));
  put('lists/drawings.json', JSON.stringify([...rows].reverse()));
  for (const { image_file, text } of rows) {
    put(`folder/${image_file}`, 'x');
    put(`folder/${text}.txt`, text);
  }
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Returns the rows to measure on of a run that trains on both lists. */
async function measured(validationDataset: string[], options: object = {}): Promise<DatasetRow[]> {
  const config = resolveOptions(trainOptionsSchema, {
    ...{ model: 'm', imageEncoder: 'e', outputDir: 'o', maxSteps: 1 },
    ...{ dataset: [at('lists', 'photos.json'), at('lists', 'drawings.json')], datasetRoot: at('folder') },
    ...{ validationDataset: validationDataset.map((name) => at(name)), ...options },
  });
  const whole = await openDataset(config);
  const { heldOut } = await withContext({}, (context) => holdOut(whole, config, context));
  return Array.from(heldOut ?? []);
}
const captions = (rows: readonly DatasetRow[]) => rows.map(({ captions }) => captions[0]);
/** How many rows are their own references. */
const alone = (rows: readonly DatasetRow[]) =>
  rows.filter(({ image, promptImage }) => image.name === promptImage.name).length;

describe('a validation dataset', () => {
  it('has the caption prefix and the groups that all training datasets have', async () => {
    const options = { captionPrefix: 'photo of', groupBy: 'prefix' };
    for (const dataset of ['folder', 'lists/photos.json']) {
      const rows = await measured([dataset], options);
      expect(captions(rows)).toEqual(['rex_1', 'rex_2', 'tom_1', 'tom_2'].map((name) => `photo of ${name}`));
      expect(alone(rows)).toBe(0);
    }
    const same = await measured(['folder'], { captionPrefix: ['a', 'a'], groupBy: ['none', 'none'] });
    expect([captions(same)[0], alone(same)]).toEqual(['a rex_1', 4]);
  });

  it('has those of the training dataset in its place, where there are as many', async () => {
    const options = { captionPrefix: ['photo of', ''], groupBy: ['none', 'prefix'] };
    const rows = await measured(['lists/photos.json', 'lists/drawings.json'], options);
    expect([captions(rows)[0], captions(rows)[4]]).toEqual(['photo of rex_1', 'tom_2']);
    expect([alone(rows.slice(0, 4)), alone(rows.slice(4))]).toEqual([4, 0]);
  });

  it('is refused where it is not clear which value it has', async () => {
    for (const [options, name] of [
      [{ captionPrefix: ['photo of', ''] }, '--caption-prefix'],
      [{ groupBy: ['none', 'prefix'] }, '--group-by'],
    ] as const)
      await expect(measured(['folder'], options)).rejects.toThrow(
        new RegExp(
          `^${name} .*2 datasets, but --validation-dataset .*names 1; name a validation dataset for each`,
        ),
      );
  });
});
