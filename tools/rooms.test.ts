/** @file The ordered list of rooms (folders) of `src/`, and the test that imports point only to earlier rooms. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { expect, it } from 'vitest';

/** A room may import only from the rooms before it. */
const rooms = [
  'base',
  'torch',
  'formats',
  'nn',
  'optim',
  'schedulers',
  'images',
  'models/layers',
  'models/unet',
  'models/controlnet',
  'models/vae',
  'models/clip',
  'models/dino',
  'weights',
  'hub',
  'data',
  'options',
  'diffusion',
  'adapters',
  'generation',
  'dataset-check',
  'evaluation',
  'distributed',
  'training/reports',
  'training/checkpoints',
  'training/encodings',
  'training',
  'training/dry-run',
  'studio',
  'cli',
  // The root contains only src/index.ts, the library's public API.
  '',
];

const src = join(import.meta.dirname, '../src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.ts$/.test(file));
const sources = files.filter((file) => !file.endsWith('.test.ts'));
const roomOf = (file: string): string => dirname(file).replace(/^\.$/, '');

/** The scripts outside of `src/` that a room may import: they also run before anything is compiled. */
const scripts: Readonly<Record<string, readonly string[]>> = {
  torch: ['../tools/build-native.mjs'],
  cli: [
    '../tools/build-native.mjs',
    '../tools/cache-folder.mjs',
    '../tools/find-libtorch.mjs',
    '../tools/system-packages.mjs',
  ],
};

/** Returns the files that a file imports, relative to `src/`, including type imports. */
function importsOf(file: string): string[] {
  const specifiers = readFileSync(join(src, file), 'utf8').matchAll(/\b(?:from|import)\s*\(?\s*'(\.[^']+)'/g);
  return Array.from(specifiers, ([, path = '']) => relative('.', normalize(join(dirname(file), path))));
}

function mayImport(file: string, imported: string): boolean {
  const [from, to] = [roomOf(file), roomOf(imported)];
  if (to.startsWith('..')) return scripts[from]?.includes(imported) ?? false;
  return from === to || (rooms.includes(to) && rooms.indexOf(to) < rooms.indexOf(from));
}

it('every file is in a room, and the root contains only index.ts', () => {
  expect(new Set(sources.map(roomOf))).toEqual(new Set(rooms));
  expect(sources.filter((file) => roomOf(file) === '')).toEqual(['index.ts']);
  expect(rooms.length).toBeLessThanOrEqual(31);
});

it('imports point to earlier rooms', () => {
  const backwards = sources.flatMap((file) =>
    importsOf(file)
      .filter((imported) => !mayImport(file, imported))
      .map((imported) => `${file} imports ${imported}`),
  );
  expect(backwards).toEqual([]);
});

it('few arrows connect the rooms', () => {
  const arrows = new Set(
    sources
      .filter((file) => file !== 'index.ts')
      .flatMap((file) => importsOf(file).map((imported) => [roomOf(file), roomOf(imported)]))
      .filter(([from, to]) => from !== to)
      .map(([from, to]) => `${from} → ${to}`),
  );
  expect(arrows.size).toBeLessThanOrEqual(159);
});
