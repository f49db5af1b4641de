/** @file The playground with images that others are made from: an initial image, a mask that is painted, ControlNets, LoRAs. */
import { copyFileSync, cpSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { RgbImage } from '../../src/base/rgb-image.js';
import { writeSafetensors } from '../../src/formats/index.js';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/options/generate-types.js';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { Generator, randn, type Tensor } from '../../src/torch/index.js';
import { loadUNet } from '../../src/weights/load.js';
import { chromiumPath, launchChromium } from '../browser.js';
import { makeInpaintingUNet, writeControlNet } from '../controlnet.js';
import { assertAccessible } from '../page-assertions.js';
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

beforeAll(async () => {
  world = await makeAdaptedWorld();
  useOwnPlaces(world.root);
  mkdirSync(at('models'));
  for (const i of [1, 2]) writeControlNet(at('models', `control-${i}`), join(world.model, 'unet'), i);
  writeLora(at('models/detail.safetensors'));
  cpSync(world.model, at('models/inpainting'), { recursive: true });
  makeInpaintingUNet(at('models/inpainting/unet'));
  copyFileSync(world.adapter, at('models/ip-adapter.safetensors'));
  const folders = { runs: at('runs'), datasets: [at('images')], models: [world.root] };
  studio = await startStudio(studioOptionsSchema.parse({ ...folders, port: 0 }), ['false']);
  if (chromiumPath === undefined) return;
  browser = await launchChromium();
  page = await browser.newPage();
  on = new PlaygroundPage(page, at('runs'));
});
afterAll(async () => {
  await browser?.close();
  await studio.close();
  world.remove();
});

/** A LoRA of one layer, which acts strongly. */
function writeLora(file: string): void {
  const { shape } = loadUNet(join(world.model, 'unet'))
    .namedParameters()
    .get('mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight') as Tensor;
  const [out = 0, inner = 0] = shape;
  const generator = new Generator('cpu', 5);
  const key = 'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0';
  const matrices = { down: randn([1, inner], { generator }), up: randn([out, 1], { generator }) };
  const named = Object.entries(matrices).map(([side, one]) => [`${key}.lora_${side}.weight`, one] as const);
  writeSafetensors(file, new Map(named));
}

const settings = { prompt: 'a picture b', seed: 5, steps: 4, width: 64, height: 64 };

async function assertGenerated(file: string, options: Partial<GenerateOptions>): Promise<void> {
  const [expected] = await generate({ model: world.model, ...settings, ...options });
  const isEqual = (await pixelsOf(file)).equals(Buffer.from((expected as RgbImage).data));
  expect(isEqual).toBe(true);
}

it.skipIf(chromiumPath === undefined)(
  'starts from an image, and makes the part new that is painted with the mouse, also with a model for it',
  async () => {
    await page.goto(studio.url);
    await page.getByRole('link', { name: 'Playground' }).click();
    await on.fill({
      Model: world.model,
      Width: '64',
      Height: '64',
      Steps: '4',
      Seed: '5',
      Prompt: 'a picture b',
    });
    await page.getByText('Start from an image').click();
    await on.field('Initial image: Drop, paste or choose an image').setInputFiles(world.picture(2));
    await on.field('Change 0.80').fill('0.6');
    const initImage = world.picture(2);
    const varied = await on.generated();
    expect(varied.asked).toMatchObject({ strength: 0.6 });
    await assertGenerated(varied.file, { initImage, strength: 0.6 });

    await on.button('Paint a mask').click();
    await assertAccessible(page);
    await on.button('Use this mask').click();
    await page.getByText('Nothing is painted yet').waitFor();
    await on.field('Brush 12 %').fill('25');
    await on.paint([0.1, 0.5], [0.9, 0.5]);
    const stroke = await on.painted();
    await on.paint([0.5, 0.1], [0.5, 0.9]);
    expect(await on.painted()).toBeGreaterThan(stroke * 1.3);
    await page.keyboard.press('Control+z');
    expect(await on.painted()).toBe(stroke);
    await on.field('Erase').check();
    await on.paint([0.5, 0.3], [0.5, 0.7]);
    expect(await on.painted()).toBeLessThan(stroke * 0.9);
    await on.button('Undo').click();
    await on.button('Use this mask').click();
    await on.image('Mask of the initial image').waitFor();
    const inpainted = await on.generated();
    const maskImage = on.upload(inpainted.asked.maskImage);
    const mask = await maskAt(maskImage);
    expect(mask).toMatchObject({ width: 64, height: 64, white: stroke });
    for (const point of [
      [0.1, 0.5],
      [0.5, 0.5],
      [0.9, 0.5],
      [0.5, 0.42],
      [0.5, 0.58],
    ] as const)
      expect(mask.isWhite(point), String(point)).toBe(true);
    for (const point of [
      [0.5, 0.3],
      [0.5, 0.7],
      [0.1, 0.1],
      [0.9, 0.9],
    ] as const)
      expect(mask.isWhite(point), String(point)).toBe(false);
    await assertGenerated(inpainted.file, { initImage, maskImage, strength: 0.6 });

    await on.fill({ Model: at('models/inpainting') });
    const anew = await on.generated();
    await assertGenerated(anew.file, { model: at('models/inpainting'), initImage, maskImage, strength: 0.6 });

    // The mask is shown again, and can be left out; the result is the next image to start from.
    await on.button('Change the mask').click();
    await vi.waitFor(async () => expect(await on.painted()).toBe(stroke));
    await on.button('No mask').click();
    await on.fill({ Model: world.model });
    await on.button('Use as initial image').click();
    const next = await on.generated();
    expect(next.asked).toMatchObject({ initImage: basename(anew.file), strength: 0.6 });
    expect(next.asked).not.toHaveProperty('maskImage');
    await assertGenerated(next.file, { initImage: anew.file, strength: 0.6 });
  },
);

it.skipIf(chromiumPath === undefined)(
  'adds ControlNets and LoRAs, and restores all of it from the file',
  async () => {
    await on.button('Remove Initial image').click();
    for (const i of [1, 2]) {
      if (i === 1) await page.getByText('ControlNet', { exact: true }).click();
      await on.button('Add a ControlNet').click();
      await on.field(`ControlNet ${i}`).fill(at('models', `control-${i}`));
      await on
        .field(`Image of ControlNet ${i}: Drop, paste or choose an image`)
        .setInputFiles(world.picture(2 + i));
      await on.image(`Image of ControlNet ${i}`).waitFor();
    }
    const second = page.getByRole('group', { name: 'ControlNet 2' });
    await second.getByLabel('Strength 1.00').fill('0.5');
    await second.getByLabel('End').fill('0.75');
    await page.getByText('LoRA', { exact: true }).click();
    await on.button('Add a LoRA').click();
    const listed = page.locator('datalist option[value$="detail.safetensors"]');
    expect(await listed.count()).toBe(1);
    await on.field('LoRA 1').fill(at('models/detail.safetensors'));
    await page.getByRole('group', { name: 'LoRA 1' }).getByLabel('Strength').fill('0.6');
    await assertAccessible(page);
    const controlled = await on.generated();
    const options: Partial<GenerateOptions> = {
      loras: [{ path: at('models/detail.safetensors'), scale: 0.6 }],
      controlnet: [at('models/control-1'), at('models/control-2')],
      controlImage: [world.picture(3), world.picture(4)],
      ...{ controlnetScale: [1, 0.5], controlRange: [0, 1, 0, 0.75] },
    };
    await assertGenerated(controlled.file, options);
    const { loras: _, ...withoutLoras } = options;
    const [plain] = await generate({ model: world.model, ...settings, ...withoutLoras });
    expect((await pixelsOf(controlled.file)).equals(Buffer.from((plain as RgbImage).data))).toBe(false);

    await on.field('LoRA 1').fill('/etc/passwd');
    await on.field('ControlNet 2').fill('../outside');
    await on.button('Generate').click();
    await expect
      .poll(() => page.locator('.field .error').allTextContents())
      .toEqual([
        expect.stringMatching(/^controlnet\[1\] is \.\.\/outside, which is not in/),
        expect.stringMatching(/^loras\[0\]\.path is \/etc\/passwd, which is not in/),
      ]);

    await on.button('Remove ControlNet 1').click();
    await on.button('Remove LoRA 1').click();
    await on.drop(controlled.file);
    await page.getByText('Its settings are restored.').waitFor();
    const again = await on.generated();
    expect(again.asked).toEqual(controlled.asked);
    expect((await pixelsOf(again.file)).equals(await pixelsOf(controlled.file))).toBe(true);
  },
);
