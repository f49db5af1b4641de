import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
