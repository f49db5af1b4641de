/**
 * @file `train --dry-run` of each preset at full size on the CPU: SD 1.5 and SDXL with Plus adapters (docs/recipes.md). All weights are zeros,
 * in files that take no disk: memory, disk and time do not depend on the values.
 *
 *     npx tsx bench/recipes.ts FOLDER (sd15|sdxl) (fine-tune|small|large) [FLAG OF train]…
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, linkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { openImageEncoder } from '../src/adapters/image-encoder.js';
import { makeFolder } from '../src/base/make-folder.js';
import { encodePng } from '../src/images/png.js';
import { createAdapter } from '../src/training/setup.js';
import { loadUNet } from '../src/weights/load.js';
import { writeImageEncoder, writeStableDiffusion } from './full-size/models.js';
import { writeFullSizeSDXL } from './full-size/sdxl-models.js';
import { writeZeros, writeZeroTensors } from './full-size/write-part.js';

const images = { 'fine-tune': 20, small: 1000, large: 100_000 };
const sizes = [
  [1024, 1024],
  [1216, 832],
  [832, 1216],
] as const;

const [folder, family, preset, ...flags] = process.argv.slice(2);
if (
  folder === undefined ||
  (family !== 'sd15' && family !== 'sdxl') ||
  preset === undefined ||
  !(preset in images)
)
  throw new Error('Expected FOLDER, sd15 or sdxl, and fine-tune, small or large');

const root = join(folder, family);
const at = (...names: string[]): string => join(root, ...names);
makeFolder(root);
if (family === 'sd15') {
  writeStableDiffusion(root, writeZeros);
  writeImageEncoder(root, writeZeros);
  // Any tokenizer whose ids the text encoder has serves.
  cpSync(join(import.meta.dirname, '../demo/models/tokenizer'), at('model/tokenizer'), { recursive: true });
} else writeFullSizeSDXL(root, writeZeros);
writeZeroAdapter();
const dataset = await writeImages(images[preset as keyof typeof images]);

const command = join(import.meta.dirname, '../dist/cli/ip-adapter.cjs');
const words = [
  ...['train', '--dry-run', '--model', at('model'), '--image-encoder', at('image_encoder')],
  ...['--adapter', at('ip_adapter.safetensors'), '--dataset', dataset, '--output-dir', at('out')],
  ...['--preset', preset, ...flags],
];
console.log(words.slice(1).join(' '));
const { status, signal } = spawnSync(process.execPath, [command, ...words], { stdio: 'inherit' });
if (signal !== null)
  console.error(`The dry run was ended by ${signal}: SIGKILL is the system's answer where memory ends`);
process.exitCode = status ?? 1;

function writeZeroAdapter(): void {
  const file = at('ip_adapter.safetensors');
  if (existsSync(file)) return;
  const backbone = { sites: loadUNet(at('model/unet')).sites() };
  const imageEncoder = openImageEncoder(at('image_encoder'));
  const { adapter } = createAdapter({ backbone, imageEncoder }, { numTokens: 16, seed: 0 }, undefined, 'cpu');
  writeZeroTensors(file, adapter.namedParameters());
}

/** Writes images of three shapes, each a file of its own (a link), with captions of their own; returns the dataset. */
async function writeImages(count: number): Promise<string> {
  const list = at(`data-${count}.json`);
  makeFolder(at('images'));
  for (const [i, [width, height]] of sizes.entries()) {
    const data = new Uint8Array(width * height * 3).fill(80 + i);
    if (!existsSync(at('images', `${i}.png`)))
      writeFileSync(at('images', `${i}.png`), await encodePng({ data, width, height }));
  }
  const rows = Array.from({ length: count }, (_, i) => {
    const name = `${i}.png`;
    if (!existsSync(at('images', name)))
      linkSync(at('images', `${i % sizes.length}.png`), at('images', name));
    return { image_file: `images/${name}`, text: `photo ${i}` };
  });
  writeFileSync(list, JSON.stringify(rows));
  return list;
}
