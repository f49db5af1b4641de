/** @file A small share of bench/fuzz.ts, in this process: the same inputs each time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { attempt, makeInput } from './target.js';
import { kinds } from './targets.js';

const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

const COUNT = 100;

it.each([...kinds])(
  '%s: damaged inputs are read, or refused in words for people',
  async (name, { create }) => {
    const target = await create(mkdtempSync(join(folder, name.replaceAll(/\W/g, '-'))));
    let accepted = 0;
    for (let index = 0; index < COUNT; index++) {
      const { verdict, what } = await attempt(target, makeInput(target, 7, index));
      expect(what, `input ${index} of seed 7`).toBeUndefined();
      if (verdict === 'accepted') accepted++;
    }
    // Otherwise no mutation got past the first check, and nothing was tested.
    expect(accepted).toBeGreaterThan(0);
  },
);
