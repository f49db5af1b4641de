/** @file A training from the page: started, watched, steered, resumed, exported; and found without faults by axe. */
import { cpSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { readAdapter } from '../../src/adapters/adapter-file.js';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { runStateOf } from '../../src/training/checkpoints/run-state.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible, assertShows } from '../page-assertions.js';
import { ipAdapter } from './command.js';
import { makeWorld, type World } from './world.js';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

let world: World;
let studio: Studio;
let browser: Browser;
let page: Page;
const at = (...parts: string[]): string => join(world.root, ...parts);

beforeAll(async () => {
  world = await makeWorld();
  mkdirSync(at('runs'));
  const options = studioOptionsSchema.parse({
    ...{ runs: at('runs'), datasets: [world.root], models: [world.root], port: 0 },
  });
  studio = await startStudio(options, [process.execPath, ipAdapter]);
  if (chromiumPath === undefined) return;
  browser = await launchChromium();
  page = await (await browser.newContext({ acceptDownloads: true })).newPage();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  // Of a test that failed, the training goes on.
  const { pid } = runStateOf(at('runs', 'from the page'));
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
  world.remove();
});

const run = async (): Promise<{ status: string; step: number; totalSteps: number }> => {
  const response = await fetch(`${studio.url.replace(/#.*/, '')}api/runs`, {
    headers: { Authorization: `Bearer ${studio.token}` },
  });
  return ((await response.json()) as never[])[0] as never;
};
const valuesOf = (file: string): Record<string, unknown> =>
  Object.fromEntries([...readAdapter(file)].map(([key, tensor]) => [key, tensor.toArray()]));
const until = (what: () => Promise<boolean>): Promise<void> =>
  vi.waitFor(async () => expect(await what()).toBe(true), { timeout: 60_000, interval: 200 });

it.skipIf(chromiumPath === undefined)('starts, shows, steers, resumes and exports a training', async () => {
  // A browser without a screen shows no notifications; here it notes them.
  await page.addInitScript(`window.notes = [];
    window.Notification = class {
      static permission = 'granted';
      static requestPermission = async () => 'granted';
      constructor(title, { body }) { window.notes.push(title + ': ' + body); }
    }`);
  await page.goto(studio.url);
  await page.getByRole('heading', { name: 'No runs yet' }).waitFor();
  expect(page.url()).not.toContain('token');
  await assertAccessible(page);
  await page.getByRole('link', { name: 'New run' }).click();
  const fill = (name: string, value: string): Promise<void> => page.locator(`#option-${name}`).fill(value);
  await page.getByRole('textbox', { name: /^name/ }).fill('from the page');
  await fill('model', at('model'));
  await fill('imageEncoder', at('image_encoder'));
  await fill('dataset', at('data.json'));
  await fill('datasetRoot', at('images'));
  await fill('batchSize', '0');
  await fill('resolution', '64');
  await fill('maxSteps', '100000');
  await fill('saveSteps', '100000');
  await fill('validationImages', at('images', '1.png'));
  await fill('validationSteps', '100000');
  await fill('validationSamplingSteps', '2');
  await page.getByRole('button', { name: 'Start training' }).click();
  await page.getByText('must be a whole number from 1').waitFor();
  await assertAccessible(page);
  await fill('batchSize', '2');
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.getByRole('heading', { name: 'What the run takes' }).waitFor({ timeout: 60_000 });
  await page
    .locator('.dry-run .facts')
    .getByText(/^[\d.]+ s a step/)
    .waitFor();
  await assertAccessible(page);
  expect(existsSync(at('runs', 'from the page'))).toBe(false);
  await page.getByRole('button', { name: 'Start training' }).click();

  await page.locator('.uplot').first().waitFor({ timeout: 60_000 });
  const steps = async (): Promise<number> =>
    Number(
      /at step (\d+)/.exec(
        (await page.getByRole('img', { name: /^Loss: / }).getAttribute('aria-label')) ?? '',
      )?.[1],
    );
  const first = await steps();
  await until(async () => (await steps()) > first + 5);
  await assertAccessible(page);

  await page.getByRole('button', { name: 'Sample now' }).click();
  await page.getByText('Sampling after this step').waitFor();
  await page.getByRole('tab', { name: 'Images' }).click();
  const cell = page.getByRole('button', { name: /^1\.png: no text, image prompt, step \d+$/ });
  await cell.waitFor({ timeout: 60_000 });
  await assertShows(cell, at('images', '1.png'), true);
  await assertAccessible(page);
  await cell.click();
  const enlarged = page.getByRole('dialog', { name: 'Validation image' });
  await enlarged.getByText('Loss').waitFor();
  await page.keyboard.press('ArrowRight');
  await enlarged.getByText(/^scale 0, step \d+$/).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Save now' }).click();
  await page.getByRole('tab', { name: 'Checkpoints' }).click();
  const exports = page.getByRole('button', { name: /Export the adapter of step \d+ as \.safetensors/ });
  await exports.first().waitFor({ timeout: 60_000 });
  const [download] = await Promise.all([page.waitForEvent('download'), exports.first().click()]);
  const step = /-(\d+)\.safetensors$/.exec(download.suggestedFilename())?.[1] as string;
  const exported = readFileSync(await download.path());
  expect(
    exported.equals(
      readFileSync(at('runs', 'from the page', `checkpoint-${step}`, 'ip_adapter.safetensors')),
    ),
  ).toBe(true);
  const [nested] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: `Export the adapter of step ${step} as .bin` }).click(),
  ]);
  expect(nested.suggestedFilename()).toBe(`from-the-page-${step}.bin`);
  cpSync(await nested.path(), at('exported.bin'));
  expect(valuesOf(at('exported.bin'))).toEqual(
    valuesOf(at('runs', 'from the page', `checkpoint-${step}`, 'ip_adapter.safetensors')),
  );
  await page.getByRole('button', { name: 'Extend' }).click();
  await until(async () => (await run()).totalSteps === 101_000);
  await page.getByRole('link', { name: 'Runs' }).first().click();
  await page.getByRole('button', { name: 'Notify me' }).click();
  // There, only the notifier asks for the runs.
  await page.getByRole('link', { name: 'Playground' }).click();
  await page.waitForResponse(/api\/runs$/);
  await page.getByRole('link', { name: 'Runs' }).click();
  await page.getByRole('heading', { name: 'from the page' }).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  await until(async () => (await run()).status === 'stopped');
  await until(async () =>
    ((await page.evaluate('window.notes')) as string[]).includes('from the page: The run has stopped.'),
  );
  const stopped = (await run()).step;
  await page.getByRole('button', { name: 'Resume' }).click();
  await until(async () => (await run()).step > stopped + 2);
  await page.getByRole('tab', { name: 'Log' }).click();
  await page.getByText(`from step ${stopped} of`).waitFor();
  await assertAccessible(page);
  await page.getByRole('button', { name: 'Stop' }).click();
  await until(async () => (await run()).status === 'stopped');
  expect(statSync(at('runs', '.studio')).mode & 0o777).toBe(0o700);
});
