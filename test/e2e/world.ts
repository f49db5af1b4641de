/**
 * @file A small but real world for end-to-end tests: the golden models in the folder layout that users have, a
 * tokenizer with a vocabulary of letters, and a few drawn pictures.
 */

import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import type { TrainOptions } from '../../src/options/train-types.js';

const golden = fileURLToPath(new URL('../golden', import.meta.url));

export interface World {
  root: string;
  /** The required flags of `ip-adapter train`, with a resolution and batch size that take milliseconds a step. */
  flags: string[];
  /** The same as a library takes them, with an output folder of that name in `root`; the batch size is the caller's. */
  optionsFor(name: string): TrainOptions;
  remove(): void;
}

/** Draws `pictures` pictures; each belongs to one row. */
export async function makeWorld(pictures = 8): Promise<World> {
  const root = mkdtempSync(join(tmpdir(), 'ip-adapter-'));
  const at = (...parts: string[]): string => join(root, ...parts);
  for (const part of ['unet', 'vae'])
    cpSync(join(golden, part, part), at('model', part), { recursive: true });
  cpSync(join(golden, 'text_encoder', 'text_encoder'), at('model', 'text_encoder'), { recursive: true });
  cpSync(join(golden, 'image_encoder', 'image_encoder'), at('image_encoder'), { recursive: true });
  mkdirSync(at('model', 'scheduler'));
  copyFileSync(
    join(golden, 'schedulers', 'sd15_scheduler_config.json'),
    at('model', 'scheduler', 'scheduler_config.json'),
  );
  writeTokenizer(at('model', 'tokenizer'));

  mkdirSync(at('images'));
  const rows = Array.from({ length: pictures }, (_, i) => ({
    image_file: `${i}.png`,
    text: `a picture ${'abcdefgh'[i % 8]}`,
  }));
  for (const [i, { image_file }] of rows.entries()) {
    const hue = (360 * i) / pictures;
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="80" height="64"><rect width="80" height="64" fill="hsl(${hue},60%,40%)"/><circle cx="${20 + 5 * i}" cy="32" r="15" fill="white"/></svg>`;
    await sharp(Buffer.from(svg)).png().toFile(at('images', image_file));
  }
  writeFileSync(at('data.json'), JSON.stringify(rows));
  const flags = [
    ['pretrained_model_name_or_path', at('model')],
    ['image_encoder_path', at('image_encoder')],
    ['data_json_file', at('data.json')],
    ['data_root_path', at('images')],
    ['output_dir', at('out')],
    ['resolution', '64'],
    ['train_batch_size', '3'],
  ].flatMap(([name, value]) => [`--${name}`, value as string]);
  const optionsFor = (name: string): TrainOptions => ({
    model: at('model'),
    imageEncoder: at('image_encoder'),
    dataset: at('data.json'),
    datasetRoot: at('images'),
    outputDir: at(name),
    resolution: 64,
  });
  return { root, flags, optionsFor, remove: () => rmSync(root, { recursive: true, force: true }) };
}

/** Stretches the pictures of a world, one after another, to these widths and heights. */
export async function stretchImages(world: World, sizes: readonly [number, number][]): Promise<void> {
  for (const [i, [width, height]] of sizes.entries()) {
    const file = join(world.root, 'images', `${i}.png`);
    const stretched = await sharp(file).resize(width, height, { fit: 'fill' }).png().toBuffer();
    writeFileSync(file, stretched);
  }
}

/** CLIP's kind of vocabulary with single characters only, below the golden text encoder's 1000 ids. */
function writeTokenizer(folder: string): void {
  const characters = [...'abcdefghijklmnopqrstuvwxyz0123456789'];
  const vocabulary = [
    ...characters,
    ...characters.map((c) => `${c}</w>`),
    '<|startoftext|>',
    '<|endoftext|>',
  ];
  mkdirSync(folder);
  writeFileSync(
    join(folder, 'vocab.json'),
    JSON.stringify(Object.fromEntries(vocabulary.map((token, i) => [token, i]))),
  );
  writeFileSync(join(folder, 'merges.txt'), '#version: 0.2\n');
}

/** Returns a world's flags with some replaced; undefined removes a flag. */
export function flagsOf(world: World, changes: Record<string, string | undefined>): string[] {
  const pairs = new Map<string, string | undefined>();
  for (let i = 0; i < world.flags.length; i += 2)
    pairs.set((world.flags[i] as string).slice(2), world.flags[i + 1]);
  for (const [name, value] of Object.entries(changes)) pairs.set(name, value);
  return [...pairs].flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]));
}
