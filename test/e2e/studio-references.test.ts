/** @file References of the playground: pasted, dropped, dragged; their masks by mouse, finger and keyboard; several adapters; the grid. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { RgbImage } from '../../src/base/rgb-image.js';
import { generate } from '../../src/generation/generate.js';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import type { PlaygroundJob } from '../../src/studio/playground.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible, assertShows } from '../page-assertions.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { useOwnPlaces } from './own-places.js';
import { maskAt, PlaygroundPage, pixelsOf } from './playground-page.js';

vi.setConfig({ testTimeout: 110_000, hookTimeout: 60_000 });

let world: Adapted;
let studio: Studio;
let browser: Browser;
let page: Page;
let on: PlaygroundPage;
const at = (...parts: string[]): string => join(world.root, ...parts);
const checkpoint = (step: number): string => at(`runs/one/checkpoint-${step}/ip_adapter.safetensors`);

beforeAll(async () => {
  world = await makeAdaptedWorld();
  useOwnPlaces(world.root);
  for (const [step, file] of [
    [1, world.adapter],
    [2, world.base],
  ] as const) {
    mkdirSync(at(`runs/one/checkpoint-${step}`), { recursive: true });
    copyFileSync(file, checkpoint(step));
  }
  const recorded = { model: world.model, image_encoder: world.imageEncoder };
  writeFileSync(at('runs/one/config.yaml'), JSON.stringify(recorded));
  const folders = { runs: at('runs'), datasets: [at('images')], models: [world.root] };
  studio = await startStudio(studioOptionsSchema.parse({ ...folders, port: 0 }), ['false']);
  if (chromiumPath === undefined) return;
  browser = await launchChromium();
  // So high that nothing moves under an image that is dragged.
  page = await browser.newPage({ viewport: { width: 1280, height: 2000 } });
  on = new PlaygroundPage(page, at('runs'));
  await page.goto(studio.url);
  await page.getByRole('link', { name: 'Playground' }).click();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  world.remove();
});

interface Asked {
  adapters: { images: string[]; masks?: string[] }[];
}

it.skipIf(chromiumPath === undefined)(
  'takes references for several adapters, with masks that are painted',
  async () => {
    const first = page.getByRole('group', { name: 'Adapter 1' });
    const second = page.getByRole('group', { name: 'Adapter 2' });
    await first.getByLabel('Adapter', { exact: true }).selectOption(checkpoint(1));
    // What is pasted goes where the pointer or the focus is, else to the first adapter.
    await page.getByRole('heading', { name: 'Playground' }).hover();
    await on.paste(world.picture(1));
    await first.getByRole('img', { name: 'Reference 1', exact: true }).waitFor();
    await on.button('Add an adapter').click();
    await second.getByLabel('Adapter', { exact: true }).selectOption(checkpoint(2));
    await second.getByRole('region').hover();
    await on.paste(world.picture(3));
    await second.getByRole('img', { name: 'Reference 1', exact: true }).waitFor();
    await on.drop(world.picture(4), '.references >> nth=0');
    await first.getByRole('img', { name: 'Reference 2', exact: true }).waitFor();
    await assertShows(first.getByRole('img', { name: 'Reference 2', exact: true }), world.picture(4), true);
    await on.fill({ Prompt: 'a', Width: '96', Height: '64', Steps: '3' });
    const strengths = page.getByRole('slider', { name: 'Strength 1.00' });
    await strengths.nth(1).fill('0.4');

    await first.getByRole('button', { name: 'Mask of reference 1' }).click();
    await on.paint([0.1, 0.1], [0.1, 0.9], [0.3, 0.9]);
    const painted = await on.painted();
    await on.button('Use this mask').click();
    await first.getByRole('img', { name: 'Mask of reference 1' }).waitFor();
    const { file, asked } = await on.generated();
    const [plus, base] = (asked as unknown as Asked).adapters as [Asked['adapters'][0], Asked['adapters'][0]];
    const masks = (plus.masks ?? []).map((name) => on.upload(name));
    const mask = await maskAt(masks[0] as string);
    expect(mask).toMatchObject({ width: 512, height: 341, white: painted });
    for (const point of [
      [0.1, 0.1],
      [0.1, 0.5],
      [0.1, 0.88],
      [0.3, 0.88],
    ] as const)
      expect(mask.isWhite(point), String(point)).toBe(true);
    for (const point of [
      [0.3, 0.3],
      [0.5, 0.5],
      [0.8, 0.9],
    ] as const)
      expect(mask.isWhite(point), String(point)).toBe(false);
    expect((await maskAt(masks[1] as string)).white).toBe(64);
    expect([plus.images.length, base.images.length, base.masks]).toEqual([2, 1, undefined]);
    const { imageEncoder, model } = world;
    const references = [world.picture(1), world.picture(4)];
    const [expected] = await generate({
      ...{ model, prompt: 'a', width: 96, height: 64, steps: 3 },
      adapters: [
        { adapter: checkpoint(1), imageEncoder, images: references, masks },
        { adapter: checkpoint(2), imageEncoder, images: [world.picture(3)], scale: 0.4 },
      ],
    });
    expect((await pixelsOf(file)).equals(Buffer.from((expected as RgbImage).data))).toBe(true);

    // A result is dragged onto an adapter.
    const target = page.getByRole('region', { name: 'Reference images of adapter 2' });
    await page.locator('.tile').first().hover();
    await page.mouse.down();
    // A browser takes the second move over a place for a drag over it.
    for (const _ of [1, 2]) await target.hover();
    await page.mouse.up();
    await second.getByRole('img', { name: 'Reference 2', exact: true }).waitFor();
    await second.getByRole('button', { name: 'Remove reference 2' }).click();
  },
);

it.skipIf(chromiumPath === undefined)(
  'paints over the last result, by keyboard and by finger too',
  async () => {
    await page.getByRole('button', { name: 'Mask of reference 1' }).nth(1).focus();
    await page.keyboard.press('Enter');
    const shown = page.locator('.mask-editor .canvas');
    await expect.poll(() => page.getByLabel('Shown below').inputValue()).toBe(on.images().at(-1));
    await assertShows(shown, at('runs/.studio/playground', on.images().at(-1) as string));
    await on.field('Another image').setInputFiles(world.picture(5));
    await assertShows(shown, world.picture(5));
    await on.button('Right half').focus();
    await page.keyboard.press('Space');
    expect(await on.painted()).toBe(256 * 341);
    await on.button('Clear').focus();
    await page.keyboard.press('Enter');
    expect(await on.painted()).toBe(0);
    await page.keyboard.press('Escape');
    await on.canvas.waitFor({ state: 'detached' });

    const before = page.viewportSize();
    await page.setViewportSize({ width: 390, height: 844 });
    await page.getByRole('button', { name: 'Mask of reference 1' }).nth(1).click();
    const box = (await on.canvas.boundingBox()) as { x: number; y: number; width: number; height: number };
    const client = await page.context().newCDPSession(page);
    const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', x = 0): Promise<unknown> =>
      client.send('Input.dispatchTouchEvent', {
        type,
        touchPoints: type === 'touchEnd' ? [] : [{ x: box.x + x * box.width, y: box.y + box.height / 2 }],
      });
    await touch('touchStart', 0.2);
    await touch('touchMove', 0.5);
    await touch('touchMove', 0.8);
    await touch('touchEnd');
    // A third of the width is behind the ends of the stroke.
    expect(await on.painted()).toBeGreaterThan(0.55 * 512 * 0.1 * 512);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await assertAccessible(page);
    }
    await on.field('Upload a mask').setInputFiles(world.picture(0));
    await page.getByRole('img', { name: 'Mask of reference 1' }).nth(1).waitFor();
    const { asked } = await on.generated();
    expect(await pixelsOf(on.upload((asked as unknown as Asked).adapters[1]?.masks?.[0]))).toEqual(
      await pixelsOf(world.picture(0)),
    );

    for (const name of ['Start from an image', 'ControlNet', 'LoRA'])
      await page.getByText(name, { exact: true }).click();
    await on.button('Use as initial image').click();
    await on.button('Add a ControlNet').click();
    await on.button('Add a LoRA').click();
    await on.image('Initial image').waitFor();
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme });
      await assertAccessible(page);
    }
    const { width: scrolled } = await page.evaluate<{ width: number }>(
      '({ width: document.documentElement.scrollWidth })',
    );
    expect(scrolled).toBeLessThanOrEqual(390);
    if (before !== null) await page.setViewportSize(before);
    for (const name of ['Remove Initial image', 'Remove ControlNet 1', 'Remove LoRA 1'])
      await on.button(name).click();
  },
);

it.skipIf(chromiumPath === undefined)('loads the model once for a grid of checkpoints', async () => {
  await on.button('Remove this adapter').last().click();
  await page.getByRole('button', { name: 'Mask of reference 1' }).click();
  await on.button('Everywhere').click();
  await page.getByText('Grid of strengths and checkpoints').click();
  await page.getByLabel('step 2', { exact: true }).check();
  await on.field('Strengths').fill('0.5, 1');
  await on.button('Generate 4 images').click();
  const cells = page.locator('.scale-grid .cell img');
  await expect.poll(() => cells.count(), { timeout: 60_000 }).toBe(4);
  const response = await fetch(`${studio.url.replace(/#.*/, '')}api/playground/jobs`, {
    headers: { Authorization: `Bearer ${studio.token}` },
  });
  const jobs = (await response.json()) as PlaygroundJob[];
  // Both adapters were there before.
  expect(jobs.map(({ loaded }) => loaded)).toEqual([
    ...['models', undefined],
    ...['adapters', undefined, 'adapters', undefined],
  ]);
  await assertAccessible(page);
});
