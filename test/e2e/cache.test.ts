import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ownLockText } from '../../src/training/checkpoints/lock-owner.js';
import { ipAdapter, runProgram } from './command.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cache-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const [old, newer] = ['hub/models--org--old/blobs/a', 'hub/models--org--newer/blobs/a'];
const [shard, encodings] = ['ours/shards/0.tar', 'run/cache/latents-1/0.safetensors'];

/** Writes a file that was last used so many days ago. */
function write(name: string, bytes: number, days: number): string {
  const file = join(root, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, Buffer.alloc(bytes));
  const time = Date.now() / 1000 - days * 86_400;
  utimesSync(file, time, time);
  return file;
}
function fill(): void {
  write(old, 3000, 40);
  write(newer, 2000, 2);
  write(shard, 1000, 50);
  write(encodings, 500, 60);
}
const cache = (...words: string[]) =>
  runProgram(process.execPath, [ipAdapter, 'cache', ...words], {
    cwd: root,
    env: { ...process.env, HF_HUB_CACHE: join(root, 'hub'), IP_ADAPTER_CACHE: join(root, 'ours') },
  });
const left = () => [old, newer, shard, encodings].filter((name) => existsSync(join(root, name)));

it('lists what there is, with its size', async () => {
  fill();
  const { stdout, exitCode } = await cache('list', 'run');
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^model +2\.9 KiB {2}\d{4}-\d\d-\d\d {2}.*models--org--old$/m);
  expect(stdout).toMatch(/^shard +1000 B .*0\.tar$/m);
  expect(stdout).toMatch(/^encodings +500 B .*latents-1$/m);
  expect(stdout).toMatch(/6\.3 KiB in 4$/);
});

it('deletes what is old only with --yes, and of the kinds that are named', async () => {
  fill();
  const { stdout } = await cache('prune', '--older-than', '30', 'run');
  expect(stdout).toContain('4.4 KiB would be deleted');
  await cache('prune', '--older-than', '30', '--yes', '--dry-run', 'run');
  expect(left().length).toBe(4);
  await cache('prune', '--older-than', '30', '--yes', '--kind', 'shard', 'encodings', '--', 'run');
  expect(left()).toEqual([old, newer]);
  await cache('prune', '--older-than', '30', '--yes');
  expect(left()).toEqual([newer]);
});

it('deletes the longest unused first until the rest fits', async () => {
  fill();
  await cache('prune', '--max-size', '0.000004', '--yes');
  expect(left()).toEqual([newer, encodings]);
});

it.runIf(process.platform === 'linux')(
  'keeps what is open, was just used, or is a running training’s',
  async () => {
    fill();
    const file = openSync(join(root, old), 'r');
    write(newer, 2000, 0);
    symlinkSync('{"pid":1}', join(root, 'run', '.lock'));
    const { stdout, stderr } = await cache('prune', '--older-than', '0', '--yes', 'run');
    closeSync(file);
    expect(stdout).toMatch(/models--org--old {2}stays: in use/);
    expect(stdout).toMatch(/models--org--newer {2}stays: used in the last hour/);
    expect(stderr).toContain('run is left out: a training runs there');
    expect((await cache('list', 'run/cache')).stderr).toContain('run/cache is left out');
    expect(left()).toEqual([old, newer, encodings]);
  },
);

it('does not take the lock of a killed run for a running one', async () => {
  fill();
  symlinkSync(JSON.stringify({ ...JSON.parse(ownLockText()), pid: 2 ** 22 }), join(root, 'run', '.lock'));
  const { stderr } = await cache('prune', '--older-than', '55', '--yes', 'run');
  expect(stderr).toBe('');
  expect(left()).toEqual([old, newer, shard]);
});

it('leaves other folders with such names, and says what it needs', async () => {
  fill();
  write('run/cache/image-2/holiday.png', 100, 90);
  await cache('prune', '--older-than', '30', '--yes', 'run');
  expect(existsSync(join(root, 'run/cache/image-2/holiday.png'))).toBe(true);
  const none = await cache('prune', '--yes');
  expect([none.exitCode, none.stderr]).toEqual([
    2,
    expect.stringContaining('needs --older-than or --max-size'),
  ]);
  expect((await cache('list', 'nowhere')).stderr).toContain('There is no folder nowhere');
});
