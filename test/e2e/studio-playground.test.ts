/** @file The playground: what it generates is what the library generates, from references that are dropped, with masks. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { RgbImage } from '../../src/base/rgb-image.js';
import { generate } from '../../src/generation/generate.js';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { assertAccessible, assertShows } from '../page-assertions.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { useOwnPlaces } from './own-places.js';

vi.setConfig({ testTimeout: 110_000, hookTimeout: 60_000 });

let world: Adapted;
let studio: Studio;
let browser: Browser;
let page: Page;
const at = (...parts: string[]): string => join(world.root, ...parts);

beforeAll(async () => {
  world = await makeAdaptedWorld();
  useOwnPlaces(world.root);
  mkdirSync(at('runs/one/checkpoint-1'), { recursive: true });
  const adapter = at('runs/one/checkpoint-1/ip_adapter.safetensors');
  copyFileSync(world.adapter, adapter);
  const recorded = { model: world.model, image_encoder: world.imageEncoder };
  writeFileSync(at('runs/one/config.yaml'), JSON.stringify(recorded));
  const folders = { runs: at('runs'), datasets: [world.root], models: [world.root] };
  studio = await startStudio(studioOptionsSchema.parse({ ...folders, port: 0 }), ['false']);
  if (chromiumPath === undefined) return;
  browser = await launchChromium();
  page = await browser.newPage();
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  world.remove();
});

const field = (name: string): Locator => page.getByLabel(name, { exact: true });
const button = (name: string): Locator => page.getByRole('button', { name, exact: true });
const folder = (): string => at('runs/.studio/playground');
/** Whole ones: a file has another name until it is written. */
const images = (): string[] =>
  readdirSync(folder())
    .filter((name) => !name.includes('.partial'))
    .sort();
const pixelsOf = (file: string): Promise<Buffer> => sharp(file).removeAlpha().raw().toBuffer();

/** Generates, and returns the file of the new image when the page shows it. */
async function generated(): Promise<string> {
  const before = images().length;
  await button('Generate').click();
  await vi.waitFor(() => expect(images().length).toBe(before + 1), { timeout: 60_000, interval: 100 });
  const name = images().at(-1) as string;
  await vi.waitFor(async () => expect(await page.locator('.tile').count()).toBe(before + 1), {
    timeout: 20_000,
    interval: 100,
  });
  return join(folder(), name);
}

/** Drops a file on the page. */
async function drop(file: string): Promise<void> {
  const transfer = await page.evaluateHandle(
    `(() => {
      const bytes = Uint8Array.from(atob('${readFileSync(file).toString('base64')}'), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
      return transfer;
    })()`,
  );
  await page.dispatchEvent('.results', 'drop', { dataTransfer: transfer });
}

/** A mask that is white on the left or right half, as the page paints it. */
function halfMask(side: 'left' | 'right'): RgbImage {
  const size = 512;
  const data = new Uint8Array(size * size * 3);
  for (let i = 0; i < data.length; i++) {
    const isLeft = Math.floor(i / 3) % size < size / 2;
    data[i] = isLeft === (side === 'left') ? 255 : 0;
  }
  return { data, width: size, height: size };
}

it.skipIf(chromiumPath === undefined)(
  'generates from two references with masks, compares and restores',
  async () => {
    await page.goto(studio.url);
    await page.getByRole('link', { name: 'Playground' }).click();
    await field('Adapter').selectOption({ label: 'one, step 1' });
    await field('Drop, paste or choose reference images').setInputFiles([world.picture(1), world.picture(4)]);
    for (const [i, side] of ['Left half', 'Right half'].entries()) {
      await button(`Mask of reference ${i + 1}`).click();
      await button(side).click();
      await button('Use this mask').click();
      await page.getByRole('img', { name: `Mask of reference ${i + 1}` }).waitFor();
    }
    await page.getByText('Model, size and sampler').click();
    for (const [name, value] of [
      ['Width', '64'],
      ['Height', '64'],
      ['Steps', '3'],
      ['Prompt', 'a picture b'],
      ['Seed', '5'],
    ] as const)
      await field(name).fill(value);
    await field('Sampler').selectOption('ddim');
    await assertAccessible(page);

    const first = await generated();
    const [expected] = await generate({
      ...{ model: world.model, adapter: world.adapter, imageEncoder: world.imageEncoder },
      ...{ images: [world.picture(1), world.picture(4)], masks: [halfMask('left'), halfMask('right')] },
      ...{ prompt: 'a picture b', seed: 5, steps: 3, width: 64, height: 64, scheduler: 'ddim' },
    });
    expect((await pixelsOf(first)).equals(Buffer.from((expected as RgbImage).data))).toBe(true);

    await button('Compare from here').click();
    await field('Seed').fill('6');
    const second = await generated();
    expect((await pixelsOf(second)).equals(await pixelsOf(first))).toBe(false);
    const slider = page.getByRole('slider', { name: 'A left, B right' });
    for (const [value, file] of [
      ['100', first],
      ['0', second],
    ] as const) {
      await slider.fill(value);
      await assertShows(page.locator('.pair'), file);
    }
    await assertAccessible(page);

    // The file says how it was made: it is dropped, and the form is as it was.
    await field('Prompt').fill('something else');
    await button('Remove reference 2').click();
    await drop(first);
    await page.getByText('Its settings are restored.').waitFor();
    expect([await field('Prompt').inputValue(), await field('Seed').inputValue()]).toEqual([
      'a picture b',
      '5',
    ]);
    expect(await page.getByRole('img', { name: /^Reference \d$/ }).count()).toBe(2);
    const again = await generated();
    expect((await pixelsOf(again)).equals(await pixelsOf(first))).toBe(true);

    await button('Use as reference').click();
    await page.getByRole('img', { name: 'Reference 3', exact: true }).waitFor();
  },
);

it.skipIf(chromiumPath === undefined)('shows what is wrong at its place, previews, and cancels', async () => {
  await page.reload();
  await page.getByText('Model, size and sampler').click();
  await field('Steps').fill('0');
  await button('Generate').click();
  await page.getByText('must be a whole number from 1 to 10,000').waitFor();
  // So many and so large that it has not ended before it is cancelled.
  for (const [name, value] of [
    ['Steps', '1000'],
    ['Width', '256'],
    ['Height', '256'],
  ] as const)
    await field(name).fill(value);
  const before = images().length;
  await button('Generate').click();
  await page.getByRole('img', { name: 'Preview' }).waitFor({ timeout: 60_000 });
  // The studio answers while the engine computes.
  const response = await fetch(`${studio.url.replace(/#.*/, '')}api/runs`, {
    headers: { Authorization: `Bearer ${studio.token}` },
  });
  expect(response.status).toBe(200);
  await button('Cancel').click();
  await button('Cancel').waitFor({ state: 'detached', timeout: 60_000 });
  expect(images().length).toBe(before);
});
