import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeFolder } from './make-folder.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-folder-'));
});
afterEach(() => rmSync(root, { recursive: true }));

it('makes what is missing, and says which folder was the first', () => {
  expect(makeFolder(root)).toBeUndefined();
  expect(makeFolder(join(root, 'a', 'b', 'c'))).toBe(join(root, 'a'));
  expect(makeFolder(join(root, 'a', 'b', 'd'))).toBe(join(root, 'a', 'b', 'd'));
  expect(readdirSync(join(root, 'a', 'b'))).toEqual(['c', 'd']);
});

it('ends with the system’s error where a folder cannot be made', () => {
  writeFileSync(join(root, 'file'), '');
  symlinkSync('nowhere', join(root, 'link'));
  expect(() => makeFolder(join(root, 'file'))).toThrow(/EEXIST/);
  expect(() => makeFolder(join(root, 'file', 'a'))).toThrow(/ENOTDIR/);
  expect(() => makeFolder(join(root, 'link'))).toThrow(/EEXIST/);
  expect(() => makeFolder('')).toThrow(/ENOENT/);
});

it.runIf(process.platform === 'linux')('ends where Node’s own recursion has no end', () => {
  expect(() => makeFolder('/proc/out')).toThrow(/ENOENT/);
  expect(() => makeFolder('/proc/self/out/deeper')).toThrow(/ENOENT/);
});

it('is what all of src/ makes folders with', () => {
  const src = join(import.meta.dirname, '..');
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /(?<!\.test)\.ts$/.test(file),
  );
  const recursive = files.filter((file) =>
    /\bmkdir(Sync)?\([^)]*recursive/.test(readFileSync(join(src, file), 'utf8')),
  );
  expect(recursive).toEqual([]);
});
