import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeChecksums } from '../base/checksums.js';
import { adapterFile, adapterFileOf } from './adapter-path.js';

let root: string;
const at = (...parts: string[]): string => join(root, ...parts);
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-path-'));
  for (const step of [9, 10, 200]) {
    const folder = at('run', `checkpoint-${step}`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, adapterFile), `adapter ${step}`);
    writeFileSync(join(folder, 'optimizer.safetensors'), 'large');
    writeChecksums(folder);
  }
  mkdirSync(at('published'));
  writeFileSync(at('published', 'ip-adapter_sd15.bin'), '');
  mkdirSync(at('empty'));
});
afterAll(() => rmSync(root, { recursive: true }));

const found = (path: string): { file: string; messages: string[] } => {
  const messages: string[] = [];
  return { file: adapterFileOf(path, (text) => messages.push(text)), messages };
};

it('is a file itself, or the one in a checkpoint', () => {
  const file = at('run', 'checkpoint-9', adapterFile);
  expect(found(file)).toEqual({ file, messages: [] });
  expect(found(at('run', 'checkpoint-9'))).toEqual({ file, messages: [] });
});

it('is that of the newest checkpoint of an output folder, which a message names', () => {
  expect(found(at('run'))).toEqual({
    file: at('run', 'checkpoint-200', adapterFile),
    messages: [`${at('run')}: taking its newest checkpoint that is whole, checkpoint-200`],
  });
});

it('is not that of a damaged checkpoint, which the message names too', () => {
  writeFileSync(at('run', 'checkpoint-200', adapterFile), 'cut');
  const { file, messages } = found(at('run'));
  expect(file).toBe(at('run', 'checkpoint-10', adapterFile));
  expect(messages[0]).toMatch(/whole, checkpoint-10; skipped: .*checkpoint-200.* is damaged/);
  for (const step of [9, 10]) rmSync(at('run', `checkpoint-${step}`, 'SHA256SUMS'));
  expect(() => found(at('run'))).toThrow(
    /Expected a checkpoint that is whole in .*run but there is none: .*SHA256SUMS/,
  );
});

it('names what is near where a folder has none', () => {
  expect(() => found(root)).toThrow(
    new RegExp(`Expected an adapter in the folder ${root} .*; ${at('run')} has one`),
  );
  expect(() => found(at('published'))).toThrow(/name the file: it holds ip-adapter_sd15\.bin$/);
  expect(() => found(at('empty'))).toThrow(/give an adapter file, a checkpoint, or the output folder/);
  expect(() => found(at('none'))).toThrow(/no such folder or file/);
});
