/** @file How the allocator reuses freed blocks, and what it keeps of the memory that a control group allows. */
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

describe('freed blocks', () => {
  it('join their neighbours, and serve blocks of other sizes', async () => {
    const kept = await run(`
      const parts = [20, 30, 10].map(make);
      const kept = [parts[1], parts[0], parts[2]].map((part) => {
        addon.release([part]);
        return addon.memory().cpuCachedBytes / MiB;
      });
      const whole = make(60);
      kept.push(addon.memory().cpuCachedBytes / MiB);
      addon.release([whole]);
      make(7);
      kept.push(addon.memory().cpuCachedBytes / MiB);
      addon.trimCpuMemory();
      // Of the range of 53 MiB, the page that the block of 7 MiB ends in cannot be given back.
      kept.push(addon.memory().cpuCachedBytes / MiB);
      console.log(JSON.stringify(kept));`);
    expect(kept).toEqual([30, 50, 60, 0, 53, 1]);
  });

  it('overlap no block in use, in any order of sizes, and all goes back in the end', async () => {
    const result = await run(`
      const [fill] = addon.findOperator('aten::fill_', 'Scalar');
      const [sum] = addon.findOperator('aten::sum', '');
      let seed = 1;
      const next = (n) => (seed = (seed * 48271) % 2147483647) % n;
      const blocks = [];
      let wrong = 0, most = 0;
      const release = () => {
        const [{ tensor, size, value }] = blocks.splice(next(blocks.length), 1);
        const total = addon.call(sum, tensor);
        if (new BigInt64Array(addon.toBytes(total))[0] !== BigInt(size * value)) wrong++;
        addon.release([tensor, total]);
      };
      for (let i = 0; i < 600; i++) {
        const size = 1 + next(i % 2 ? 12 * MiB : MiB);
        const tensor = addon.call(addon.findOperator('aten::ones', '')[0], [size], 'uint8');
        const value = 1 + next(255);
        addon.release([addon.call(fill, tensor, value)]);
        blocks.push({ tensor, size, value });
        if (i > 400 && i % 20 === 0) addon.trimCpuMemory();
        const { cpuAllocatedBytes, cpuCachedBytes, cpuPeakBytes } = addon.memory();
        if (i > 50 && i < 400) most = Math.max(most, (cpuAllocatedBytes + cpuCachedBytes) / cpuPeakBytes);
        while (blocks.length > 10) release();
      }
      while (blocks.length > 0) release();
      addon.trimCpuMemory();
      const { cpuAllocatedBytes, cpuCachedBytes } = addon.memory();
      console.log(JSON.stringify([wrong, cpuAllocatedBytes, cpuCachedBytes, most]));`);
    const [wrong, allocated, cached, most] = result as [number, number, number, number];
    expect([wrong, allocated, cached]).toEqual([0, 0, 0]);
    // Sizes that are never equal leave gaps; blocks that are kept for their size alone take five times the memory.
    expect(most).toBeLessThan(2);
  });
});

describe('under a memory limit', () => {
  it('at most a quarter of it is kept in free blocks', async () => {
    const kept = await run(`
      addon.setMemoryLimit(400 * MiB, '/nowhere', '/nowhere');
      const [first, second] = [make(90), make(60)];
      const kept = [first, second].map((tensor) => {
        addon.release([tensor]);
        return addon.memory().cpuCachedBytes / MiB;
      });
      console.log(JSON.stringify(kept));`);
    expect(kept).toEqual([90, 100]);
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
      ${usage(1000, 0)} step(300);
      ${usage(1600, 600)} step(300);
      ${usage(1350, 0)} step(300);
      console.log(JSON.stringify(kept));`);
    expect(kept).toEqual([288, 288, 138]);
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
