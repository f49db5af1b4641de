import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MetricsFile } from './metrics-file.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-metrics-'));
  path = join(folder, 'metrics.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const steps = (): number[] =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).step);

it('keeps what was told up to the step that a run resumes from, without the half line of a kill', () => {
  new MetricsFile(path, 0).append([{ step: 1 }, { step: 2, nested: { of: 3 } }, { step: 3 }]);
  appendFileSync(path, '{"step":4,"nested":{"of":1}');
  new MetricsFile(path, 2).append([{ step: 3 }, { step: 4 }]);
  expect(steps()).toEqual([1, 2, 3, 4]);
});

it('says once that it cannot write, and has lost nothing when it can', () => {
  rmSync(folder, { recursive: true });
  writeFileSync(folder, 'a file in the place of the folder');
  const messages: string[] = [];
  const file = new MetricsFile(path, 0, (text) => messages.push(text));
  file.append([{ step: 1 }]);
  file.append([{ step: 2 }]);
  expect(messages).toEqual([
    expect.stringMatching(/metrics\.jsonl waits until it can be written again: (EEXIST|ENOTDIR)/),
  ]);
  rmSync(folder);
  file.append([{ step: 3 }]);
  expect(steps()).toEqual([1, 2, 3]);
});

it('resumes a file that is larger than the longest string, and keeps its whole lines', () => {
  writeFileSync(path, '{"step":1}\n');
  const file = openSync(path, 'r+');
  // A hole takes no room on the disk.
  writeSync(file, '\n{"step":2}\n{"step":3}\n', 600 * 2 ** 20);
  closeSync(file);
  new MetricsFile(path, 2).append([{ step: 3 }]);
  expect(steps()).toEqual([1, 2, 3]);
});

it('fails at the end where what was told could never be written', () => {
  mkdirSync(path);
  const messages: string[] = [];
  const file = new MetricsFile(path, 0, (text) => messages.push(text));
  file.append([{ step: 1 }, { step: 2 }]);
  expect(() => file.finish()).toThrow(/the last 2 lines of \S+metrics\.jsonl could not be written: E/);
  rmdirSync(path);
  file.finish();
  expect(steps()).toEqual([1, 2]);
});
