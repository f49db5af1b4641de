/** @file What the allocator keeps of the memory that a control group allows. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { locateAddon } from '../../tools/build-native.mjs';

const MiB = 1 << 20;

/** Runs code with the addon in a process of its own, whose memory limits are its own too. */
function run(code: string, prepare: (pid: number) => void = () => {}): Promise<unknown> {
  const script = `
    process.stdin.once('data', () => {
      const addon = require(${JSON.stringify(locateAddon().path)});
      addon.installCpuAllocator();
      const [ones] = addon.findOperator('aten::ones', '');
      const MiB = 1 << 20;
      const make = (mebibytes) => addon.call(ones, [mebibytes * MiB], 'uint8');
      ${code}
      process.stdin.destroy();
    });`;
  return new Promise((done) => {
    const child = execFile(process.execPath, ['-e', script], (error, stdout) =>
      done(error === null ? JSON.parse(stdout) : (error.signal ?? error.message)),
    );
    prepare(child.pid!);
    child.stdin!.write('begin\n');
  });
}

describe('under a memory limit', () => {
  it('at most a quarter of it is kept in free blocks', async () => {
    const kept = await run(`
      addon.setMemoryLimit(400 * MiB, '/nowhere', '/nowhere');
      addon.release([make(90)]);
      const first = addon.memory().cpuCachedBytes / MiB;
      addon.release([make(60)]);
      console.log(JSON.stringify([first, addon.memory().cpuCachedBytes / MiB]));`);
    // Blocks come in eight sizes to each power of two.
    expect(kept).toEqual([96, 60]);
  });

  it('kept blocks are given back where others in the group have taken the rest', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'usage-'));
    const files = ['usage', 'stat'].map((name) => JSON.stringify(join(folder, name))).join();
    const usage = (used: number, filePages: number): string => `
      require('fs').writeFileSync(${JSON.stringify(join(folder, 'usage'))}, '${used * MiB}\\n');
      require('fs').writeFileSync(${JSON.stringify(join(folder, 'stat'))},
        'active_file 0\\ntotal_active_file ${filePages * MiB}\\ninactive_file 0\\n');`;
    const kept = await run(`
      addon.setMemoryLimit(1600 * MiB, ${files});
      const kept = [];
      const step = (size) => { make(size); kept.push(addon.memory().cpuCachedBytes / MiB); };
      addon.release([make(64), make(96), make(128)]);
      ${usage(1000, 0)} step(200);
      ${usage(1600, 600)} step(200);
      ${usage(1350, 0)} step(200);
      console.log(JSON.stringify(kept));`);
    expect(kept).toEqual([288, 288, 160]);
    rmSync(folder, { recursive: true });
  });

  const group = '/sys/fs/cgroup/memory/ip-adapter-test';
  const canLimit = ((): boolean => {
    try {
      mkdirSync(group);
      rmdirSync(group);
      return true;
    } catch {
      return false;
    }
  })();

  // A sanitizer needs more memory than the limit.
  it.runIf(canLimit && !process.env.IP_ADAPTER_SANITIZE)(
    'the kernel does not end a process whose tensors fit one at a time',
    async () => {
      mkdirSync(group);
      try {
        writeFileSync(join(group, 'memory.limit_in_bytes'), String(900 * MiB));
        const sizes = await run(
          `addon.setMemoryLimit(900 * MiB, '${group}/memory.usage_in_bytes', '${group}/memory.stat');
        const aside = Buffer.alloc(420 * MiB, 1);
        let sum = 0;
        for (let i = 0; i < 60; i++) {
          const size = 60 + (i * 53) % 161;
          addon.release([make(size)]);
          sum += size;
        }
        console.log(JSON.stringify(sum));`,
          (pid) => writeFileSync(join(group, 'cgroup.procs'), String(pid)),
        );
        expect(sizes).toBeGreaterThan(60 * 60);
        expect(Number(readFileSync(join(group, 'memory.max_usage_in_bytes'), 'utf8'))).toBeLessThan(
          900 * MiB,
        );
      } finally {
        await new Promise((done) => setTimeout(done, 100));
        rmdirSync(group);
      }
    },
  );
});
