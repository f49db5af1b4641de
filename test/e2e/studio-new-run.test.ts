/** @file The form of a new run: the check of its dataset, rows as the encoder sees them, presets, and errors at their fields. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import type { DatasetCheck } from '../../src/studio/dataset-checks.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible } from '../page-assertions.js';
import { ipAdapter } from './command.js';
import { makeWorld, type World } from './world.js';

vi.setConfig({ testTimeout: 110_000, hookTimeout: 60_000 });

let world: World;
let outside: string;
let studio: Studio;
let browser: Browser | undefined;
const at = (...parts: string[]): string => join(world.root, ...parts);

beforeAll(async () => {
  world = await makeWorld();
  outside = mkdtempSync(join(tmpdir(), 'outside-'));
  copyFileSync(at('images/0.png'), join(outside, 'secret.png'));
  writeFileSync(join(outside, 'list.jsonl'), '{"file_name": "secret.png", "text": "secret words"}\n');
  // One image cannot be read, two are the same, one caption is empty.
  writeFileSync(at('images/3.png'), 'no image');
  copyFileSync(at('images/0.png'), at('images/1.png'));
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8'));
  rows[5].text = '';
  writeFileSync(at('data.json'), JSON.stringify(rows));
  // A folder whose list is a link out, and one whose list names an image outside.
  mkdirSync(at('linked'));
  symlinkSync(join(outside, 'list.jsonl'), at('linked/metadata.jsonl'));
  writeFileSync(
    at('named.json'),
    JSON.stringify([
      { image_file: join(outside, 'secret.png'), text: 'x' },
      { image_file: at('images/0.png'), text: 'y' },
    ]),
  );
  const many = Array.from({ length: 30_000 }, (_, i) => ({ image_file: '0.png', text: `row ${i}` }));
  writeFileSync(at('many.json'), JSON.stringify(many));
  const options = { runs: at('runs'), datasets: [world.root], models: [world.root], port: 0 };
  studio = await startStudio(studioOptionsSchema.parse(options), [process.execPath, ipAdapter]);
  if (chromiumPath !== undefined) browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  world.remove();
  rmSync(outside, { recursive: true });
});

async function ask(path: string, method = 'GET', body?: object): Promise<{ status: number; json: never }> {
  const response = await fetch(`${studio.url.replace(/#.*/, '')}api/datasets/checks${path}`, {
    method,
    headers: { Authorization: `Bearer ${studio.token}`, 'Content-Type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: (await response.json()) as never };
}
const begin = async (options: object): Promise<string> => {
  const { status, json } = await ask('', 'POST', { options });
  expect(status, JSON.stringify(json)).toBe(201);
  return (json as { id: string }).id;
};
const ended = async (id: string): Promise<DatasetCheck> =>
  vi.waitFor(
    async () => {
      const check = (await ask(`/${id}`)).json as DatasetCheck;
      expect(check.status).not.toBe('running');
      return check;
    },
    { timeout: 60_000, interval: 100 },
  );

it('says what the check of the command line says, without files outside of its folders', async () => {
  const check = await ended(
    await begin({ dataset: at('data.json'), datasetRoot: at('images'), resolution: 64 }),
  );
  expect(check).toMatchObject({ status: 'done', done: 8, total: 8, datasets: [at('data.json')] });
  expect(check).not.toHaveProperty('samples');
  const facts = Object.fromEntries(check.summary?.facts ?? []);
  expect(facts).toMatchObject({
    rows: '8, bad 1, incomplete 0, left out 0',
    captions: '8, empty 1',
    width: 'min 80, median 80, max 80',
  });
  expect(check.summary?.problems).toEqual([
    {
      title: 'Images that cannot be read',
      count: 1,
      shown: [{ file: at('images/3.png'), reason: expect.stringContaining('it is not a JPEG') }],
    },
    { title: 'Captions that are empty', count: 1, shown: [] },
    { title: 'Rows of one image', count: 1, shown: [{ file: 'rows 1, 2', reason: expect.any(String) }] },
  ]);

  const linked = await ended(await begin({ dataset: at('linked') }));
  expect(linked).toMatchObject({
    status: 'failed',
    fault: { option: 'dataset', error: expect.stringContaining('is not in the folders') },
  });
  const encoder = { imageEncoder: at('image_encoder'), resolution: 64 };
  const named = await ended(await begin({ dataset: at('named.json'), ...encoder }));
  expect(named.summary?.problems).toMatchObject([
    { count: 1, shown: [{ reason: expect.stringContaining('is not in the folders') }] },
  ]);
  expect(named.samples?.rows.map(({ caption }) => caption)).toEqual(['y']);
  expect(JSON.stringify([linked, named])).not.toContain('secret words');
});

it('names options that are wrong, is cancelled, and refuses a third check meanwhile', async () => {
  const wrong = await ask('', 'POST', { options: { dataset: '/etc', batchSize: 0 } });
  expect([wrong.status, Object.keys((wrong.json as { errors: object }).errors)]).toEqual([
    422,
    ['batchSize'],
  ]);
  const folder = await ask('', 'POST', { options: { dataset: '/etc' } });
  expect(Object.keys((folder.json as { errors: object }).errors)).toEqual(['dataset']);
  const none = await ended(await begin({ dataset: at('nothing.json') }));
  expect(none).toMatchObject({ status: 'failed', fault: { option: 'dataset', isFault: false } });
  const references = await ended(await begin({ dataset: at('data.json'), referencesPerRow: 3 }));
  expect(references).toMatchObject({ status: 'failed', fault: { option: 'referencesPerRow' } });

  const long = { dataset: at('many.json'), datasetRoot: at('images') };
  const [first, second] = [await begin(long), await begin(long)];
  const third = await ask('', 'POST', { options: long });
  expect([third.status, third.json]).toEqual([422, { error: expect.stringContaining('cancel one') }]);
  await vi.waitFor(
    async () => expect((await ask(`/${first}`)).json).toMatchObject({ total: 30_000, status: 'running' }),
    { timeout: 60_000 },
  );
  expect((await ask(`/${first}`, 'DELETE')).status).toBe(200);
  expect((await ask(`/${second}`, 'DELETE')).status).toBe(200);
  expect((await ask(`/${second}`, 'DELETE')).status).toBe(409);
  expect((await ask(`/${first}`)).json).toMatchObject({ status: 'cancelled' });
  for (const id of ['nothing', '..%2f..', '%2e%2e']) expect((await ask(`/${id}`)).status).toBe(404);
});

it.skipIf(chromiumPath === undefined)('shows check, rows, and presets in the form', async () => {
  const page = await (browser as Browser).newPage();
  await page.goto(studio.url);
  await page.goto(`${studio.url.replace(/#.*/, '')}#/new`);
  const fill = (name: string, value: string): Promise<void> => page.locator(`#option-${name}`).fill(value);
  const check = (): Promise<void> => page.getByRole('button', { name: 'Check the dataset' }).click();
  await page.getByRole('button', { name: 'Check the dataset' }).waitFor();
  // Nothing is filled in.
  await check();
  await page.locator('#help-dataset strong').waitFor();
  await page.getByLabel('Add to dataset').selectOption(at('data.json'));
  await fill('datasetRoot', at('images'));
  await fill('imageEncoder', at('no_encoder'));
  await fill('resolution', '64');
  await check();
  await page.getByText('Images that cannot be read: 1').waitFor({ timeout: 60_000 });
  await page.locator('#help-imageEncoder strong').waitFor();
  await fill('imageEncoder', at('image_encoder'));
  await page.getByText('The options have changed since this check.').waitFor();
  await fill('referenceFlip', '1');
  await check();
  const seen = page.getByRole('region', { name: 'As the encoders see it' });
  await seen.waitFor({ timeout: 60_000 });
  // All rows but the one that cannot be read.
  expect(await seen.getByRole('listitem').count()).toBe(7);
  await page.getByText('8, bad 1, incomplete 0, left out 0').waitFor();
  await assertAccessible(page);
  await choosePreset(page);
});

async function choosePreset(page: Page): Promise<void> {
  await page.getByRole('radio', { name: /^fine-tune/ }).check();
  await page.getByText('learningRate 0.00002').waitFor();
  expect(await page.locator('#option-maxSteps').getAttribute('placeholder')).toBe('400 (preset)');
  await page.locator('#option-maxSteps').fill('7');
  await page.getByText('in place of the preset’s 400').waitFor();
  await assertAccessible(page);
  await page.locator('#option-model').fill(at('model'));
  await page.getByRole('textbox', { name: /^name/ }).fill('tuned');
  await page.getByRole('button', { name: 'Start training' }).click();
  await page.locator('#help-adapter strong').waitFor();
}
