/**
 * @file Feeds mutated files to every reader: each input is accepted or refused with a UserError, without a crash, in
 * bounded time and memory. Anything else is a finding: its input is kept, and the exit code is 1.
 *
 *     npx tsx bench/fuzz.ts [--seed 1] [--count 100000] [--only "torch zip"] [--keep fuzz-findings]
 */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeFolder } from '../src/base/make-folder.js';
import type { Outcome } from '../test/fuzz/target.js';
import { kinds } from '../test/fuzz/targets.js';

const worker = fileURLToPath(new URL('../test/fuzz/worker.ts', import.meta.url));
/** A process that says nothing for so long hangs, on a busy machine too. Its processor time is measured inside, and allowed less. */
const HANG_MS = 60_000;
/** The same before its first line: the sources are compiled, and models made. */
const START_MS = 300_000;
/** Inputs of one process, so that a slow leak of one does not hide another. */
const PER_PROCESS = 5000;
const SHOWN_FINDINGS = 5;

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '100000' },
    only: { type: 'string' },
    keep: { type: 'string', default: 'fuzz-findings' },
  },
});

interface Tally {
  accepted: number;
  refused: number;
  findings: string[];
}

/** Runs inputs first … first + count - 1 in a process; returns how many it got through. */
async function runWorker(kind: string, first: number, count: number, tally: Tally): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const args = ['--import', 'tsx', worker, kind, folder, options.seed, String(first), String(count)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (text) => {
    errors = (errors + text).slice(-2000);
  });
  const closed = new Promise<string>((resolve) => {
    child.on('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  let hung = false;
  const watch = (limit: number) =>
    setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, limit);
  let timer = watch(START_MS);
  let file = '';
  let done = 0;
  const record = (what: string): void => {
    const kept = join(options.keep, `${kind.replace(/\W+/g, '-')}-${first + done}-${basename(file)}`);
    makeFolder(options.keep);
    copyFileSync(file, kept);
    tally.findings.push(`${kept}: ${what}`);
  };
  for await (const line of createInterface(child.stdout)) {
    clearTimeout(timer);
    timer = watch(HANG_MS);
    const told = JSON.parse(line) as { file: string } | Outcome;
    if ('file' in told) {
      file = told.file;
      continue;
    }
    if (told.verdict === 'finding') record(told.what ?? '');
    else tally[told.verdict]++;
    done++;
  }
  const end = await closed;
  clearTimeout(timer);
  if (file === '') throw new Error(`the worker for ${kind} did not start: ${errors}`);
  if (end !== 'exit code 0') {
    record(hung ? `no answer in ${HANG_MS / 1000} s` : `the process ended with ${end}: ${errors}`);
    done++;
  }
  rmSync(folder, { recursive: true });
  return done;
}

const chosen = [...kinds].filter(([name]) => options.only === undefined || name === options.only);
if (chosen.length === 0) throw new Error(`--only takes one of: ${[...kinds.keys()].join(', ')}`);
const shares = chosen.reduce((sum, [, { share }]) => sum + share, 0);

const printRow = (cells: readonly (string | number)[]): void =>
  console.log(
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(24) : String(cell).padStart(10))).join(''),
  );

printRow(['kind', 'inputs', 'accepted', 'refused', 'findings', 'seconds']);
const begin = performance.now();
const sum: Tally & { inputs: number } = { inputs: 0, accepted: 0, refused: 0, findings: [] };
for (const [name, { share }] of chosen) {
  const since = performance.now();
  const tally: Tally = { accepted: 0, refused: 0, findings: [] };
  const count = Math.ceil((Number(options.count) * share) / shares);
  for (let done = 0; done < count; )
    done += await runWorker(name, done, Math.min(PER_PROCESS, count - done), tally);
  const seconds = ((performance.now() - since) / 1000).toFixed(1);
  printRow([name, count, tally.accepted, tally.refused, tally.findings.length, seconds]);
  for (const finding of tally.findings.slice(0, SHOWN_FINDINGS)) console.log(finding.replace(/^/gm, '    '));
  sum.inputs += count;
  sum.accepted += tally.accepted;
  sum.refused += tally.refused;
  sum.findings.push(...tally.findings);
}
const seconds = ((performance.now() - begin) / 1000).toFixed(1);
printRow(['all', sum.inputs, sum.accepted, sum.refused, sum.findings.length, seconds]);
process.exitCode = sum.findings.length === 0 ? 0 : 1;
