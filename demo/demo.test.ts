import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ClipTokenizer } from '../src/data/clip-tokenizer.js';
import { captionWords, drawPictures } from './pictures.js';
import { writeTokenizer } from './tokenizer-files.js';

const folder = mkdtempSync(join(tmpdir(), 'demo-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('draws the same pictures for the same seed, and others for another', () => {
  expect(drawPictures(20, 64, 1)).toEqual(drawPictures(20, 64, 1));
  expect(drawPictures(20, 64, 2)).not.toEqual(drawPictures(20, 64, 1));
});

it('makes a CLIP tokenizer in which every word of a caption is one token', () => {
  const tokens = writeTokenizer(folder, captionWords());
  const tokenizer = ClipTokenizer.load(folder);
  const eos = tokens - 1;
  for (const { caption } of drawPictures(50, 64, 1)) {
    const ids = tokenizer.encode(caption);
    expect(ids).toHaveLength(77);
    expect(ids.indexOf(eos)).toBe(1 + caption.split(' ').length);
    expect(Math.max(...ids)).toBe(eos);
  }
});

it('spells words that it does not know', () => {
  const ids = ClipTokenizer.load(folder).encode('zebra?');
  expect(new Set(ids).size).toBeGreaterThan(4);
});
