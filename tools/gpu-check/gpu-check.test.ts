import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cudaDevices } from '../../src/torch/index.js';
import { runProgram } from '../../test/e2e/command.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpu-check-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const check = (env: Record<string, string>) =>
  runProgram('node_modules/.bin/tsx', ['tools/gpu-check/main.ts'], {
    cwd: process.cwd(),
    env: { ...process.env, REPORT: join(folder, 'report.md'), ...env },
  });

it('runs every part and reports it, on the day that there is a GPU', { timeout: 300_000 }, async () => {
  const { stdout, stderr, exitCode } = await check({ DEVICE: 'cpu', SCALE: 'tiny' });
  const report = readFileSync(join(folder, 'report.md'), 'utf8');
  expect(exitCode, `${stdout}${stderr}${report}`).toBe(0);
  expect(report.match(/^## .*: passed, \d+ s$/gm)).toHaveLength(5);
  expect(report).toMatch(/LibTorch/);
  expect(report.match(/^[1-9]\d* passed, 0 failed/gm)).toHaveLength(3);
  expect(report).toMatch(/ok {4}eager, killed and resumed: the same weights/);
});

it.skipIf(cudaDevices() > 0)('says where there is no GPU', async () => {
  const { stderr, exitCode } = await check({});
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/finds no GPU; `npx ip-adapter doctor`/)]);
});
