import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  lutimesSync,
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
  const text = { pid: process.pid, host: hostname(), ticks: '1', since: '2024-01-02T03:04:05.000Z' };
  symlinkSync(JSON.stringify({ ...text, ...owner }), join(out, lockFile));
}

it('refuses a second run, naming the first, until that has ended', async () => {
  const first = await lockRun(out);
  await expect(lockRun(out)).rejects.toThrow(
    new RegExp(`${out} is in use by process ${process.pid} on ${hostname()}, since 20`),
  );
  writeFileSync(join(out, 'something'), '');
  first[Symbol.dispose]();
  expect(readdirSync(out)).toEqual(['something']);
  (await lockRun(out))[Symbol.dispose]();
});

it('leaves no folder where it made one and nothing was written, and leaves one that was there', async () => {
  (await lockRun(out))[Symbol.dispose]();
  expect(existsSync(out)).toBe(false);
  mkdirSync(out);
  (await lockRun(out))[Symbol.dispose]();
  expect(existsSync(out)).toBe(true);

  const deep = join(out, 'a', 'b');
  (await lockRun(deep))[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
  const lock = await lockRun(deep);
  writeFileSync(join(out, 'a', 'another'), '');
  lock[Symbol.dispose]();
  expect(readdirSync(join(out, 'a'))).toEqual(['another']);
});

it('takes over the lock of a process that was killed, and says so', async () => {
  const child = spawn('sleep', ['60']);
  const ticks = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')[21];
  leave({ pid: child.pid, ticks });
  await expect(lockRun(out)).rejects.toThrow(/is in use by process/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const messages: string[] = [];
  using _ = await lockRun(out, { onMessage: (text) => messages.push(text) });
  expect(messages).toEqual([
    `${out} was in use by process ${child.pid} on ${hostname()}, since 2024-01-02T03:04:05.000Z, which was killed`,
  ]);
  expect(JSON.parse(readlinkSync(join(out, lockFile))).pid).toBe(process.pid);
  expect(readdirSync(out)).toEqual([lockFile]);
});

it('knows whether a process runs where the kernel does not tell when it was started', async () => {
  const child = spawn('sleep', ['60']);
  leave({ pid: child.pid, ticks: undefined });
  await expect(lockRun(out)).rejects.toThrow(
    /is in use by process .* if that process is not a training run, delete .*\.lock$/,
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  (await lockRun(out))[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
});

it('takes over where the process id is in use again by a process that was started later', async () => {
  leave({ ticks: '1' });
  (await lockRun(out))[Symbol.dispose]();
  expect(readdirSync(out)).toEqual([]);
});

it('never takes over the lock of another host, and says what to do', async () => {
  leave({ host: 'node-7', pid: 4_194_303 });
  await expect(lockRun(out)).rejects.toThrow(
    `${out} is in use by process 4194303 on node-7, since 2024-01-02T03:04:05.000Z. Wait until it ends, or use another --output-dir; if that process is not a training run, delete ${join(out, lockFile)}`,
  );
  expect(JSON.parse(readlinkSync(join(out, lockFile))).host).toBe('node-7');
});

it('names an output folder that cannot be one', async () => {
  writeFileSync(join(root, 'file'), '');
  await expect(lockRun(join(root, 'file'))).rejects.toThrow(/--output-dir .* received .*file: E/);
});

it('leaves the lock of another container alone while that shows signs of life, and takes it over when it does not', async () => {
  // The same host name, and a process id that is one of this container, too.
  leave({ pid: process.pid, place: 'another boot pid:[1]' });
  const messages: string[] = [];
  const context = { watchMs: 400, beatMs: 20, onMessage: (text: string) => messages.push(text) };
  const beat = setInterval(() => lutimesSync(join(out, lockFile), new Date(), new Date()), 50);
  await expect(lockRun(out, context)).rejects.toThrow(/is in use by process/);
  clearInterval(beat);
  using lock = await lockRun(out, context);
  expect(messages.at(-1)).toMatch(/was in use by process .*, which was killed/);
  lock.assertHeld();
  expect(readdirSync(out)).toEqual([lockFile]);
});

it('shows signs of life, also while the thread is held, and notices that it was taken over', async () => {
  using lock = await lockRun(out, { beatMs: 20 });
  const changedAt = () => lstatSync(join(out, lockFile)).mtimeMs;
  const first = changedAt();
  const started = performance.now();
  while (changedAt() === first && performance.now() - started < 10_000);
  expect(changedAt()).toBeGreaterThan(first);
  rmSync(join(out, lockFile));
  lock.assertHeld();
  leave({ host: 'node-7' });
  expect(() => lock.assertHeld()).toThrow(/was taken over by process \d+ on node-7/);
  lock[Symbol.dispose]();
  expect(JSON.parse(readlinkSync(join(out, lockFile))).host).toBe('node-7');
});

it.each<[string, (file: string) => void]>([
  ['a folder', (file) => mkdirSync(file)],
  ['a file', (file) => writeFileSync(file, 'x')],
  ['not JSON', (file) => symlinkSync('x', file)],
  ['null', (file) => symlinkSync('null', file)],
  ['an empty object', (file) => symlinkSync('{}', file)],
  ['of wrong types', (file) => symlinkSync('{"pid":"1","host":2,"since":3}', file)],
])('says what to do where the lock is %s', async (_, make) => {
  mkdirSync(out);
  make(join(out, lockFile));
  await expect(lockRun(out)).rejects.toThrow(
    `Expected the lock of a run at ${join(out, lockFile)} but it is something else. If no run uses ${out}, delete that file`,
  );
  expect(readdirSync(out)).toEqual([lockFile]);
});

it.runIf(process.platform === 'linux')('names an output folder in which nothing can be made', async () => {
  for (const folder of ['/proc/out', '/proc/self'])
    await expect(lockRun(folder)).rejects.toThrow(/--output-dir .* received \/proc/);
});

it('removes the claim of a process that was killed while it took the lock', async () => {
  leave({ ticks: '1' });
  symlinkSync(readlinkSync(join(out, lockFile)), join(out, '.lock.1234'));
  using _ = await lockRun(out);
  expect(readdirSync(out)).toEqual([lockFile]);
});

const rounds = Number(process.env.LOCK_ROUNDS ?? 40);

it(`${rounds} rounds of four processes at once on the lock of one that was killed: one holder each, no other error`, async () => {
  const program = join(import.meta.dirname, '../../../test/lock-contender.ts');
  const contenders = Array.from({ length: 4 }, () => {
    const child = fork(program, [], { execArgv: ['--import', 'tsx'] });
    const lines: string[] = [];
    child.on('message', (message) => lines.push(String(message)));
    const answer = async (): Promise<string> => {
      while (lines.length === 0) await once(child, 'message');
      return lines.shift() as string;
    };
    return { child, answer };
  });
  try {
    for (const { answer } of contenders) expect(await answer()).toBe('ready');
    for (let round = 0; round < rounds; round++) {
      rmSync(out, { recursive: true, force: true });
      leave({ ticks: '1' });
      for (const { child } of contenders) child.send(out);
      const answers = await Promise.all(contenders.map(({ answer }) => answer()));
      expect(
        answers.filter((answer) => answer === 'held'),
        answers.join('\n'),
      ).toHaveLength(1);
      expect(
        answers.filter((answer) => /is in use by process/.test(answer)),
        answers.join('\n'),
      ).toHaveLength(3);
      for (const { child } of contenders) child.send('release');
      for (const { answer } of contenders) await answer();
      expect(readdirSync(out)).toEqual([]);
    }
  } finally {
    for (const { child } of contenders) child.kill();
  }
}, 120_000);
