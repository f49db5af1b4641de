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
  'models',
  'models/layers',
  'models/unet',
  'models/vae',
  'models/clip',
  'weights',
  'hub',
  'data',
  'options',
  'diffusion',
  'adapters',
  'generation',
  'dataset-check',
  'evaluation',
  'training/reports',
  'training/checkpoints',
  'training/encodings',
  'training',
  'training/dry-run',
  'cli',
  // The root contains only src/index.ts, the library's public API.
  '',
];

const src = join(import.meta.dirname, '../src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.ts$/.test(file));
const sources = files.filter((file) => !file.endsWith('.test.ts'));
const roomOf = (file: string): string => dirname(file).replace(/^\.$/, '');

/** Returns the files of `src/` that a file imports, including type imports. */
function importsOf(file: string): string[] {
  const specifiers = readFileSync(join(src, file), 'utf8').matchAll(/\b(?:from|import)\s*\(?\s*'(\.[^']+)'/g);
  return Array.from(specifiers, ([, path = '']) => relative('.', normalize(join(dirname(file), path))));
}

it('every file is in a room, and the root contains only index.ts', () => {
  expect(sources.map(roomOf).filter((room) => !rooms.includes(room))).toEqual([]);
  expect(sources.filter((file) => roomOf(file) === '')).toEqual(['index.ts']);
});

it('imports point to earlier rooms', () => {
  const backwards = sources.flatMap((file) =>
    importsOf(file)
      .filter((imported) => roomOf(imported) !== roomOf(file))
      .filter((imported) => rooms.indexOf(roomOf(imported)) >= rooms.indexOf(roomOf(file)))
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
  expect(arrows.size).toBeLessThanOrEqual(150);
});
