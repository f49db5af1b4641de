/** @file The tests that read golden data. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Returns the files of src/ that hold something against golden data, from the repository's root. */
export function goldenTests(): string[] {
  return readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join('src', name))
    .filter((file) => readFileSync(file, 'utf8').includes('/test/golden.js'))
    .sort();
}
