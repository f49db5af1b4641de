import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fingerprintOf } from './fingerprint.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-fingerprint-'));
});
afterAll(() => rmSync(root, { recursive: true }));

/** Writes a file whose time of change is another each time. */
let time = 1000;
const write = (name: string, content: string | Uint8Array): string => {
  const file = join(root, name);
  writeFileSync(file, content);
  time += 10;
  utimesSync(file, time, time);
  return file;
};

it('tells files of other content and of other length apart, small and large', () => {
  const large = new Uint8Array(5 * 2 ** 20);
  const first = fingerprintOf(write('a.bin', large));
  expect(fingerprintOf(write('b.bin', large))).toBe(first);
  // The first and the last byte, and one more.
  for (const place of [0, large.length - 1]) {
    const changed = large.slice();
    changed[place] = 1;
    expect(fingerprintOf(write('a.bin', changed)), String(place)).not.toBe(first);
  }
  expect(fingerprintOf(write('a.bin', new Uint8Array(large.length + 1)))).not.toBe(first);
  const small = fingerprintOf(write('c.json', 'a'));
  expect(fingerprintOf(write('c.json', 'b'))).not.toBe(small);
  expect(fingerprintOf(write('c.json', 'a'))).toBe(small);
});

it('of a folder counts weights and settings, by their names', () => {
  mkdirSync(join(root, 'model/unet'), { recursive: true });
  write('model/unet/weights.safetensors', 'a');
  const folder = join(root, 'model');
  const first = fingerprintOf(folder);
  write('model/unet/notes.md', 'x');
  expect(fingerprintOf(folder)).toBe(first);
  write('model/unet/weights.safetensors', 'b');
  expect(fingerprintOf(folder)).not.toBe(first);
});
