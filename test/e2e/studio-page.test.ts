/** @file The page itself: how much it loads, by keyboard, with reduced motion, as wide as a phone, and runs laid over each other. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible } from '../page-assertions.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const STEPS = 300;
let root: string;
let studio: Studio;
let browser: Browser | undefined;
const shell = join(import.meta.dirname, '../../dist/studio-page');

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'studio-page-'));
  for (const [i, name] of ['one', 'two'].entries()) {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, 'config.yaml'), `batch_size: ${4 + i}\nseed: 1\n`);
    writeFileSync(join(root, name, 'metrics.jsonl'), linesOf(i).join('\n').concat('\n'));
  }
  studio = await startStudio(studioOptionsSchema.parse({ runs: root, port: 0 }), ['false']);
  if (chromiumPath !== undefined) browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  rmSync(root, { recursive: true });
});

/** Every kind of event, as a run writes them. */
function linesOf(run: number): string[] {
  const interval = (mean: number) => ({ mean, low: mean - 0.01, high: mean + 0.01 });
  const scores = (mean: number) =>
    Object.fromEntries(
      ['retrieval', 'dino', 'clipI', 'clipT', 'copies'].map((name) => [name, interval(mean)]),
    );
  return Array.from({ length: STEPS }, (_, i) => {
    const common = { v: 1, step: i + 1, time: 1.7e9 + i };
    const lines: object[] = [
      {
        ...{ ...common, type: 'step', total_steps: STEPS, loss: 0.3 + run / 10 + Math.sin(i / 9) / 20 },
        ...{ grad_norm: 1 + run, 'lr/image_proj': 1e-4, 'loss_by_timestep/0-249': 0.5 },
        ...{ 'speed/images_per_second': 9, 'speed/step_seconds': 0.1, 'memory/rss_bytes': 2 ** 30 },
      },
    ];
    if (i % 50 === 49) {
      const measured = {
        gain: interval(0.02 + run / 100),
        specificity: interval(0.01),
        verdict: 'uses the image',
      };
      lines.push({ ...common, type: 'gain', rows: 32, ...measured, gauge: { 'down.0': 0.5, 'up.1': 0.7 } });
      const sets = { adapter: scores(0.6), shuffled: scores(0.3), noAdapter: scores(0.1) };
      lines.push({ ...common, type: 'scores', rows: 16, ...sets });
      lines.push({ ...common, type: 'request', request: 'extend', steps: 10 });
    }
    return lines.map((line) => JSON.stringify(line)).join('\n');
  });
}

const address = (hash: string): string => `${studio.url.replace(/#.*/, '')}${hash}`;
const open = async (settings: object = {}): Promise<Page> => {
  const page = await (await (browser as Browser).newContext(settings)).newPage();
  await page.goto(studio.url);
  await page.getByRole('heading', { name: 'Runs' }).waitFor();
  return page;
};

it('loads at most 250 KB the first time, gzipped', () => {
  const html = readFileSync(join(shell, 'index.html'), 'utf8');
  const files = [...html.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map(([, name]) => name as string);
  expect(files.length).toBeGreaterThan(2);
  const bytes = [html, ...files.map((name) => readFileSync(join(shell, name)))].reduce(
    (sum, content) => sum + gzipSync(content).length,
    0,
  );
  expect(bytes).toBeLessThan(250_000);
});

it.skipIf(chromiumPath === undefined)('is used by keyboard: runs, tabs, and charts that zoom', async () => {
  const page = await open();
  const focused = (): Promise<string> =>
    page.evaluate('document.activeElement.innerText || document.activeElement.ariaLabel || ""');
  const tabTo = async (text: RegExp): Promise<void> => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('Tab');
      if (text.test(await focused())) return;
    }
    throw new Error(`${text} is not reached by Tab`);
  };
  await tabTo(/^one/);
  await page.keyboard.press('Enter');
  await page.locator('.uplot').first().waitFor();
  await tabTo(/^Loss: /);
  const canvas = page.locator('.uplot canvas').first();
  const shown = async (): Promise<string> => (await canvas.screenshot()).toString('base64');
  const all = await shown();
  await page.keyboard.press('+');
  await vi.waitFor(async () => expect(await shown()).not.toBe(all));
  await page.keyboard.press('0');
  await vi.waitFor(async () => expect(await shown()).toBe(all));
  await page.getByRole('tab', { name: 'Curves' }).focus();
  for (let i = 0; i < 4; i++) await page.keyboard.press('ArrowRight');
  expect(await focused()).toBe('Log');
  await page.getByText(`Requests to the run (${STEPS / 50})`).click();
  await page.getByText('Step 50: extend by 10 steps').waitFor();
  await assertAccessible(page);
  await page.context().close();
});

it.skipIf(chromiumPath === undefined)('shows every measure, and runs laid over each other', async () => {
  const page = await open();
  await page.goto(address('#/run/one'));
  const titles = [
    ...['Loss', 'Loss by band of timesteps', 'Gain on held-out rows', 'Specificity', 'Retrieval', 'DINO'],
    ...['CLIP-I', 'CLIP-T', 'Copies', 'Gradient norm', 'Learning rate', 'Images per second'],
    ...['Memory, GiB', 'Gauge by layer'],
  ];
  await page.getByRole('heading', { name: 'Gauge by layer' }).waitFor();
  expect(await page.locator('.chart h2').allTextContents()).toEqual(titles);
  const dino = page.locator('.chart').filter({ hasText: 'DINO' });
  expect(await dino.locator('.legend li').allTextContents()).toEqual([
    'no adapter',
    'another reference',
    'adapter',
  ]);
  await page.getByLabel('Lay another run over it').selectOption('two');
  for (const title of ['Loss', 'Gain on held-out rows', 'DINO', 'Gradient norm', 'Memory, GiB'])
    await page
      .locator('.chart', { has: page.getByRole('heading', { name: title, exact: true }) })
      .locator('.legend li', { hasText: 'two' })
      .waitFor();
  await page.getByRole('tab', { name: 'Options' }).click();
  await page.getByLabel('Compare with the options of').selectOption('two');
  await page.locator('tr.different').waitFor();
  expect(await page.locator('tr.different').allInnerTexts()).toEqual(['batch_size\t4\t5']);
  await page.context().close();
});

it.skipIf(chromiumPath === undefined)('moves nothing where less motion is wished', async () => {
  const moving = `[...document.querySelectorAll('*')].filter((one) => {
    const { transitionDuration, animationName } = getComputedStyle(one);
    return /[1-9]/.test(transitionDuration) || animationName !== 'none';
  }).length`;
  for (const [reducedMotion, isExpected] of [
    ['no-preference', true],
    ['reduce', false],
  ] as const) {
    const page = await open({ reducedMotion });
    await page.goto(address('#/run/one'));
    await page.locator('.uplot').first().waitFor();
    expect(((await page.evaluate(moving)) as number) > 0).toBe(isExpected);
    await page.context().close();
  }
});

it.skipIf(chromiumPath === undefined)('fits a phone: nothing is wider than it', async () => {
  const page = await open({ viewport: { width: 390, height: 844 } });
  const widest = `[...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > 391
    && one.closest('.scroll, .grid-scroll, pre, .tabs, .hidden, .problem ul') === null).map((one) => one.outerHTML.slice(0, 99))`;
  for (const hash of ['#/', '#/run/one', '#/new', '#/datasets', '#/playground']) {
    await page.goto(address(hash));
    await page.locator('main h1, main h2').first().waitFor();
    await vi.waitFor(async () => expect(await page.locator('.loading').count()).toBe(0));
    expect([hash, await page.evaluate(widest)]).toEqual([hash, []]);
    expect(await page.evaluate('document.documentElement.scrollWidth'), hash).toBeLessThanOrEqual(390);
  }
  await page.context().close();
});
