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
  '%s: damaged inputs are read, or refused with an error for people',
  async (name, { create }) => {
    const target = await create(mkdtempSync(join(folder, name.replaceAll(/\W/g, '-'))));
    const verdicts = { accepted: 0, refused: 0 };
    for (let index = 0; index < COUNT; index++) {
      const { verdict, what } = await attempt(target, makeInput(target, 7, index));
      expect(what, `input ${index} of seed 7`).toBeUndefined();
      if (verdict !== 'finding') verdicts[verdict]++;
    }
    // Mutants that were all refused would not get past the first check.
    expect(verdicts.accepted + verdicts.refused).toBe(COUNT);
    expect(verdicts.refused).toBeGreaterThan(0);
  },
);
