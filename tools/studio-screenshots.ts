/**
 * @file Screenshots of the studio's pages for docs/images/studio: light, dark, and as wide as a phone. It trains the demo's model
 * for some hundred steps first. `npm run screenshots -- [folder that it has made before] [folder to write]`
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Page } from 'playwright-core';
import sharp from 'sharp';
import { writeDataset } from '../demo/world/dataset.js';
import { studioOptionsSchema } from '../src/options/studio-options.js';
import { startStudio } from '../src/studio/server.js';
import { launchChromium } from '../test/browser.js';

const root = join(import.meta.dirname, '..');
const [given, out = join(root, 'docs/images/studio')] = process.argv.slice(2);
const main = join(root, 'dist/cli/main.js');
const demo = given === undefined ? await trainedDemo() : resolve(given);

/** Returns a folder of runs, datasets and models, whose name may be seen in the images. */
async function trainedDemo(): Promise<string> {
  const folder = join(tmpdir(), 'studio-demo');
  mkdirSync(folder);
  const models = join(folder, 'models');
  cpSync(join(root, 'demo/models'), models, { recursive: true });
  const dataset = await writeDataset(join(folder, 'datasets/scenes'), {
    count: 400,
    split: 'train',
    seed: 1,
  });
  const images = JSON.parse(readFileSync(dataset, 'utf8'))
    .slice(0, 3)
    .map((row: { image_file: string }) => join(folder, 'datasets/scenes', row.image_file)) as string[];
  for (const learningRate of [5e-4, 1e-3]) {
    const outputDir = join(folder, 'runs', `scenes-${learningRate.toExponential()}`);
    const options = {
      ...{ model: models, imageEncoder: join(models, 'image_encoder'), dataset, outputDir },
      ...{ resolution: 64, batchSize: 8, learningRate, maxSteps: 240, saveSteps: 80 },
      ...{ cache: ['latents', 'text', 'image'], validationSplit: 32, validationScores: 16 },
      ...{ validationImages: images, validationScales: [0.5, 1], validationSteps: 40 },
      ...{ validationSamplingSteps: 10, validationGuidanceScale: 3 },
    };
    const config = join(folder, 'options.json');
    writeFileSync(config, JSON.stringify(options));
    spawnSync(process.execPath, [main, 'train', '--config', config], { stdio: 'inherit' });
  }
  process.stdout.write(`Runs, datasets and models are in ${folder}\n`);
  return folder;
}

/** Fills in the form of a new run, chooses a preset, and checks the dataset. */
async function fillNewRun(page: Page): Promise<void> {
  const fill = (name: string, value: string): Promise<void> => page.locator(`#option-${name}`).fill(value);
  await page.getByRole('textbox', { name: /^name/ }).fill('scenes-small');
  await fill('model', join(demo, 'models'));
  await fill('imageEncoder', join(demo, 'models/image_encoder'));
  const scenes = readdirSync(join(demo, 'datasets/scenes')).find((name) => name.endsWith('.json')) as string;
  await fill('dataset', join(demo, 'datasets/scenes', scenes));
  await fill('resolution', '64');
  await fill('referenceFlip', '0.5');
  await page.getByRole('radio', { name: /^small/ }).check();
  await page.getByRole('button', { name: 'Check the dataset' }).click();
  await page.locator('.facts').waitFor({ timeout: 120_000 });
}

/** Generates three images, or looks at those that are there. */
async function showPlayground(page: Page, isFirst: boolean): Promise<void> {
  const fill = (label: string, value: string): Promise<void> =>
    page.getByLabel(label, { exact: true }).fill(value);
  const press = (name: string): Promise<void> => page.getByRole('button', { name, exact: true }).click();
  if (isFirst) {
    const scenes = join(demo, 'datasets/scenes');
    const references = readdirSync(scenes, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.png'),
    );
    await page.getByLabel('Adapter', { exact: true }).selectOption({ label: `${run}, step 240` });
    const files = references.slice(0, 2).map((name) => join(scenes, name));
    await page.getByLabel('Drop, paste or choose reference images').setInputFiles(files);
    await page.getByText('Model, size and sampler').click();
    for (const [label, value] of Object.entries({ Width: '64', Height: '64', Steps: '20', Guidance: '3' }))
      await fill(label, value);
    await page.getByText('Model, size and sampler').click();
    for (const seed of [1, 2, 3]) {
      await fill('Seed', String(seed));
      await press('Generate');
      await page
        .getByRole('button', { name: `Image with seed ${seed}: no text` })
        .waitFor({ timeout: 60_000 });
    }
  } else {
    await page.locator('.tile').first().click();
    await press('Restore its settings');
  }
  await page.getByRole('img', { name: 'Generated image' }).waitFor();
  await press('Compare from here');
  await page.locator('.tile').nth(1).click();
}

/** Paints over a part of the last result. */
async function paintMask(page: Page): Promise<void> {
  const press = (name: string): Promise<void> => page.getByRole('button', { name, exact: true }).click();
  await press('End comparison');
  await press('Use as initial image');
  await press('Paint a mask');
  const canvas = page.locator('.mask-editor canvas');
  await canvas.waitFor();
  const { x, y, width, height } = (await canvas.boundingBox()) as {
    x: number;
    y: number;
    width: number;
    height: number;
  };
  const points = [
    [0.3, 0.62],
    [0.45, 0.55],
    [0.6, 0.6],
    [0.7, 0.66],
    [0.5, 0.68],
  ] as const;
  for (const [i, [left, top]] of points.entries()) {
    await page.mouse.move(x + left * width, y + top * height);
    if (i === 0) await page.mouse.down();
  }
  await page.mouse.up();
}

const options = studioOptionsSchema.parse({
  runs: join(demo, 'runs'),
  datasets: [join(demo, 'datasets')],
  models: [join(demo, 'models')],
  port: 0,
});
const studio = await startStudio(options, [process.execPath, main]);
const browser = await launchChromium();
mkdirSync(out, { recursive: true });
const looks = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 860 } },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 860 } },
  phone: { colorScheme: 'light', viewport: { width: 390, height: 844 } },
} as const;
const run = 'scenes-5e-4';
for (const [look, settings] of Object.entries(looks)) {
  const page = await (await browser.newContext(settings)).newPage();
  const shoot = async (name: string, isWhole = look === 'phone' || name === 'new'): Promise<void> => {
    await page.evaluate('scrollTo(0, 0)');
    await page.waitForTimeout(700);
    while ((await page.locator('.placeholder, .loading').count()) > 0) await page.waitForTimeout(100);
    const image = sharp(await page.screenshot({ fullPage: isWhole }));
    const { width, height } = await image.metadata();
    // Some pages are very long on a phone.
    const top = { left: 0, top: 0, width, height: Math.min(height, 1700) };
    await image
      .extract(top)
      .webp({ quality: 80 })
      .toFile(join(out, `${name}-${look}.webp`));
  };
  await page.goto(studio.url);
  await page.getByRole('heading', { name: run }).waitFor();
  await shoot('runs');
  await page.getByRole('heading', { name: run }).click();
  await page.locator('.uplot').first().waitFor();
  await shoot('run');
  for (const tab of ['Images', 'Checkpoints', 'Options']) {
    await page.getByRole('tab', { name: tab }).click();
    await shoot(tab.toLowerCase());
  }
  await page.goto(`${studio.url.replace(/#.*/, '')}#/new`);
  await page.getByRole('heading', { name: 'New run' }).waitFor();
  await fillNewRun(page);
  await shoot('new');
  await page.goto(`${studio.url.replace(/#.*/, '')}#/playground`);
  await showPlayground(page, look === 'light');
  await shoot('playground');
  await paintMask(page);
  // A dialog covers what is on the screen.
  await shoot('playground-mask', false);
  await page.goto(`${studio.url.replace(/#.*/, '')}#/datasets`);
  await page.locator('.data-row').first().waitFor();
  await shoot('datasets');
}
await browser.close();
await studio.close();
