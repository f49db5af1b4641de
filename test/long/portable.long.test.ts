/** @file The archive of `npm run pack-portable`, where there is no Node.js beside it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runProgram } from '../e2e/command.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'portable-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('has what the check needs, in 64 MiB', async () => {
  const archive = join(process.cwd(), 'build/ip-adapter-portable.tar.xz');
  execFileSync(process.execPath, ['tools/pack-portable.mjs']);
  expect(statSync(archive).size).toBeLessThan(64 * 2 ** 20);
  execFileSync('tar', ['xf', archive], { cwd: folder });

  const bin = join(folder, 'bin');
  mkdirSync(bin);
  for (const name of readdirSync('/usr/bin'))
    if (!/^(node|nodejs|npm|npx|corepack)$/.test(name)) symlinkSync(join('/usr/bin', name), join(bin, name));
  const env = { HOME: process.env.HOME, PATH: bin, DEVICE: 'cpu', SCALE: 'tiny' };
  const { stdout, stderr, exitCode } = await runProgram('/bin/sh', ['ip-adapter/gpu-check.sh'], {
    cwd: folder,
    env,
  });
  expect(exitCode, `${stdout}${stderr}`).toBe(0);
  expect(stdout).toMatch(/all parts passed/);
});
