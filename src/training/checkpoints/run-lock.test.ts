import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockFile, lockRun } from './run-lock.js';

let root: string;
let out: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-lock-'));
  out = join(root, 'out');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A lock as a run with these properties would have left it. */
function leave(owner: object): void {
  mkdirSync(out, { recursive: true });
  const own = { pid: process.pid, host: hostname(), ticks: '1', since: '2024-01-02T03:04:05.000Z' };
  symlinkSync(JSON.stringify({ ...own, ...owner }), join(out, lockFile));
}

it('refuses a second run, naming the first, until that has ended', () => {
  const first = lockRun(out);
  expect(() => lockRun(out)).toThrow(
    new RegExp(`${out} is in use by process ${process.pid} on ${hostname()}, since 20`),
  );
  writeFileSync(join(out, 'something'), '');
  first[Symbol.dispose]();
  expect(readdirSync(out)).toEqual(['something']);
  lockRun(out)[Symbol.dispose]();
});

it('leaves no folder where it made one and nothing was written, and leaves one that was there', () => {
  lockRun(out)[Symbol.dispose]();
  expect(existsSync(out)).toBe(false);
  mkdirSync(out);
  lockRun(out)[Symbol.dispose]();
  expect(existsSync(out)).toBe(true);

  const deep = join(out, 'a', 'b');
  lockRun(deep)[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
  const lock = lockRun(deep);
  writeFileSync(join(out, 'a', 'another'), '');
  lock[Symbol.dispose]();
  expect(readdirSync(join(out, 'a'))).toEqual(['another']);
});

it('takes over the lock of a process that was killed, and says so', async () => {
  const child = spawn('sleep', ['60']);
  const ticks = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')[21];
  leave({ pid: child.pid, ticks });
  expect(() => lockRun(out)).toThrow(/is in use by process/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const messages: string[] = [];
  using _ = lockRun(out, (text) => messages.push(text));
  expect(messages).toEqual([
    `${out} was in use by process ${child.pid} on ${hostname()}, since 2024-01-02T03:04:05.000Z, which was killed`,
  ]);
  expect(JSON.parse(readlinkSync(join(out, lockFile))).pid).toBe(process.pid);
  expect(readdirSync(out)).toEqual([lockFile]);
});

it('knows whether a process runs where the kernel does not tell when it was started', async () => {
  const child = spawn('sleep', ['60']);
  leave({ pid: child.pid, ticks: undefined });
  expect(() => lockRun(out)).toThrow(
    /is in use by process .* if that process is no training, delete .*\.lock$/,
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockRun(out)[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
});

it('takes over where the process id is in use again by a process that was started later', () => {
  leave({ ticks: '1' });
  lockRun(out)[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
});

it('never takes over the lock of another host, and says what to do', () => {
  leave({ host: 'node-7', pid: 4_194_303 });
  expect(() => lockRun(out)).toThrow(
    `${out} is in use by process 4194303 on node-7, since 2024-01-02T03:04:05.000Z. If that run is no more, delete ${join(out, lockFile)}`,
  );
  expect(JSON.parse(readlinkSync(join(out, lockFile))).host).toBe('node-7');
});

it('names an output folder that cannot be one', () => {
  writeFileSync(join(root, 'file'), '');
  expect(() => lockRun(join(root, 'file'))).toThrow(/--output-dir .* received .*file: E/);
});
