import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fileSource } from '../images/image-source.js';
import { rowBuckets } from './row-buckets.js';
import { readRowSizes } from './row-sizes.js';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-row-buckets-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const rowOf = (file: string, promptFile = file) => ({
  image: fileSource(join(dir, file)),
  promptImage: fileSource(join(dir, promptFile)),
  captions: [''],
});

it('takes each row to the bucket of its training image, and what has no header to the square', async () => {
  const sizes = { 'tall.png': [30, 70], 'wide.png': [90, 50], 'wider.png': [100, 50], 'even.png': [50, 52] };
  for (const [file, [width, height]] of Object.entries(sizes))
    await sharp({ create: { width: width!, height: height!, channels: 3, background: 'red' } }).toFile(
      join(dir, file),
    );
  writeFileSync(join(dir, 'broken.png'), 'broken');
  const rows = [
    rowOf('tall.png', 'wide.png'),
    rowOf('wide.png', 'broken.png'),
    rowOf('broken.png'),
    rowOf('even.png'),
    rowOf('absent.png'),
    rowOf('wider.png'),
    rowOf('tall.png'),
  ];
  const messages: string[] = [];
  const onMessage = (message: string) => void messages.push(message);
  const buckets = rowBuckets(await readRowSizes(rows, { onMessage }), 64, onMessage);
  expect(buckets.map(({ width, height }) => `${width}x${height}`)).toEqual(
    '32x64 80x48 64x64 64x64 64x64 64x32 32x64'.split(' '),
  );
  expect(new Set(buckets).size).toBe(4);
  expect(messages).toEqual([
    'Reading the sizes of 7 images',
    'Buckets: 32x64: 2, 64x64: 3, 80x48: 1, 64x32: 1',
  ]);
});

it('ends when it is asked to', async () => {
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  await expect(readRowSizes([rowOf('tall.png')], { signal })).rejects.toBe(reason);
});
