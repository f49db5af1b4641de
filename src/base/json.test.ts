import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from './errors.js';
import { readJsonObject } from './json.js';

const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-json-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'config.json');

it('reads an object', () => {
  writeFileSync(file, '{"a": [1]}');
  expect(readJsonObject(file, ConfigError)).toEqual({ a: [1] });
});

it.each(['', '{', 'null', '[]', '"text"', '1'])('refuses %j with the error it is asked for', (text) => {
  writeFileSync(file, text);
  for (const ErrorClass of [ConfigError, CheckpointError]) {
    expect(() => readJsonObject(file, ErrorClass)).toThrow(ErrorClass);
    expect(() => readJsonObject(file, ErrorClass)).toThrow(/^Expected a JSON object in .*config\.json but/);
  }
});

it('names a file that is missing', () => {
  expect(() => readJsonObject(join(folder, 'none.json'), ConfigError)).toThrow(/none\.json.*ENOENT/);
});
