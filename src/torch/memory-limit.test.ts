import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { memoryLimit } from './memory-limit.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), `${text}\n`);
}

const MiB = 1 << 20;

it('reads a limit of version 2, the tightest of the group and those around it', () => {
  write('proc/self/cgroup', '0::/slurm/job/step');
  write('sys/fs/cgroup/slurm/memory.max', String(700 * MiB));
  write('sys/fs/cgroup/slurm/job/memory.max', String(500 * MiB));
  write('sys/fs/cgroup/slurm/job/step/memory.max', 'max');
  const folder = join(root, 'sys/fs/cgroup/slurm/job');
  expect(memoryLimit(root)).toEqual({
    bytes: 500 * MiB,
    usageFile: join(folder, 'memory.current'),
    statFile: join(folder, 'memory.stat'),
  });
});

it('reads a limit of version 1, also where a container sees itself as the top', () => {
  write('proc/self/cgroup', '5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/');
  write('sys/fs/cgroup/memory/memory.limit_in_bytes', String(900 * MiB));
  const folder = join(root, 'sys/fs/cgroup/memory');
  expect(memoryLimit(root)).toEqual({
    bytes: 900 * MiB,
    usageFile: join(folder, 'memory.usage_in_bytes'),
    statFile: join(folder, 'memory.stat'),
  });
});

it('says null where there is no limit, or no control group', () => {
  expect(memoryLimit(root)).toBeNull();
  write('proc/self/cgroup', '4:memory:/\n0::/');
  write('sys/fs/cgroup/memory/memory.limit_in_bytes', '9223372036854771712');
  write('sys/fs/cgroup/memory.max', 'max');
  expect(memoryLimit(root)).toBeNull();
});
