/**
 * @file Holds this checkout, uncommitted changes included, against an older commit: the same command lines in both, and
 * every number that comes of them compared to the byte.
 *
 *     npm run compare -- 6736623                    every case: some minutes
 *     npm run compare -- 6736623 --only bf16        cases whose name has this in it; several with commas
 *     npm run compare -- 6736623 --speed            seconds a step instead, old and new in turn
 *     npm run compare -- 6736623 --speed --pairs 3 --only demo
 *
 * The commit is checked out into a temporary folder, built there by its own set-up, and removed at the end. Compared are the
 * adapters, optimizers and moving averages of all checkpoints, the losses, the pixels of what is generated, saved
 * embeddings and scores: trainings on the demo's models and on the golden ones, with the options that change how a step is
 * computed, resumed old checkpoints, each sampler, an evaluation (cases.ts). No difference is intended. A line a case;
 * the exit code is 1 where one differs or fails, or, with --speed, where the median of old / new is below 0.98 (the step of
 * full size writes 6.8 GB of random weights into build/ once).
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { type Case, cases } from './cases.js';
import { writeData } from './data.js';
import { firstDifference, readResults } from './results.js';
import { compareSpeed } from './speed.js';
import { CommandError, checkOut, currentSide, type Side } from './trees.js';

const { values, positionals } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    speed: { type: 'boolean', default: false },
    pairs: { type: 'string', default: '7' },
  },
  allowPositionals: true,
});
const [commit] = positionals;
const pairs = Number(values.pairs);
if (commit === undefined || positionals.length > 1 || !Number.isInteger(pairs) || pairs < 1) {
  console.error('Usage: npm run compare -- COMMIT [--only NAME,…] [--speed [--pairs 7]]');
  process.exit(2);
}
const only = (name: string): boolean => values.only.split(',').some((part) => name.includes(part));

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => interrupt.abort());
const start = performance.now();
const elapsed = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const work = mkdtempSync(join(tmpdir(), 'ip-adapter-compare-'));
try {
  const { side: old, remove } = await checkOut(commit, work, interrupt.signal);
  try {
    const now = currentSide(work, interrupt.signal);
    const data = join(work, 'data');
    await writeData(data);
    console.log(`${describe(commit)} is built, and the data written: ${elapsed(start)}`);
    const isGood = values.speed
      ? await compareSpeed([old, now], data, { pairs, only })
      : await compareCases(old, now);
    console.log(`All of it: ${elapsed(start)}`);
    if (!isGood) process.exitCode = 1;
  } finally {
    remove();
  }
} catch (error) {
  if (!interrupt.signal.aborted) throw error;
  process.exitCode = 130;
} finally {
  rmSync(work, { recursive: true, force: true, maxRetries: 5 });
}

function describe(name: string): string {
  return execFileSync('git', ['log', '-1', '--format=%h (%s)', name], { encoding: 'utf8' }).trim();
}

/** Those that are asked for, and those whose results they read. */
function selected(): Case[] {
  const asked = cases.filter(({ name }) => only(name));
  const names = new Set(asked.flatMap(({ name, needs }) => [name, needs]));
  return cases.filter(({ name }) => names.has(name));
}

async function compareCases(old: Side, now: Side): Promise<boolean> {
  let different = 0;
  const chosen = selected();
  for (const one of chosen) {
    const begin = performance.now();
    const { words, isEqual } = await compareCase(one, old, now);
    if (!isEqual) different++;
    console.log(
      `${isEqual ? 'equal  ' : 'DIFFERS'}  ${one.name.padEnd(30)} ${elapsed(begin).padStart(7)}  ${words}`,
    );
  }
  console.log(`${chosen.length - different} of ${chosen.length} cases are equal`);
  return different === 0 && chosen.length > 0;
}

async function compareCase(
  { name, commands, needs = '', resumes }: Case,
  old: Side,
  now: Side,
): Promise<{ words: string; isEqual: boolean }> {
  try {
    if (resumes) copyWithoutLast(join(old.folder, needs), join(now.folder, name));
    for (const side of resumes ? [now] : [old, now]) {
      // generate and evaluate write into folders that are there.
      mkdirSync(join(side.folder, name), { recursive: true });
      for (const words of commands) await side.run(words);
    }
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { words: error.message, isEqual: false };
  }
  const expected = await readResults(join(old.folder, resumes ? needs : name));
  const received = await readResults(join(now.folder, name));
  if (expected.size === 0) return { words: 'no results to compare', isEqual: false };
  const difference = firstDifference(expected, received);
  return {
    words: difference ?? `${expected.size} tensors, images and numbers`,
    isEqual: difference === undefined,
  };
}

/** A run's folder as it was before its last checkpoint. */
function copyWithoutLast(from: string, to: string): void {
  const step = (folder: string): number => Number(folder.split('-').at(-1));
  const last = readdirSync(from)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => step(a) - step(b))
    .at(-1);
  cpSync(from, to, { recursive: true });
  rmSync(join(to, last as string), { recursive: true });
}
