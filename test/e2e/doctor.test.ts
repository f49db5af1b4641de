import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runProgram } from './command.js';

const root = join(import.meta.dirname, '../..');
const command = [join(root, 'dist/cli/main.js'), 'doctor'];

/** Runs the command with changed environment variables. */
const doctor = (...assignments: string[]) =>
  runProgram('env', [...assignments, process.execPath, ...command], { cwd: root });

it('names what it finds, and succeeds where nothing needed is missing', async () => {
  const { exitCode, stdout } = await doctor();
  expect(exitCode).toBe(0);
  for (const name of [
    'Node.js',
    'C++ compiler',
    'LibTorch',
    'BLAS',
    'addon',
    'CUDA',
    'threads',
    'memory',
    'addon cache',
    'Hub cache',
  ])
    expect(stdout).toMatch(new RegExp(`^(ok|warning) +${name.replaceAll('+', '\\+')}  `, 'm'));
});

it('fails where LibTorch is missing, with the command that fixes it', async () => {
  const { exitCode, stdout } = await doctor('LIBTORCH=/nowhere');
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^missing +LibTorch +not found.*\n +fix: unset LIBTORCH/m);
});

it('fails where a compiler is needed and missing, and says that the addon is not built', async () => {
  const { exitCode, stdout } = await doctor('CXX=/nowhere/g++', 'IP_ADAPTER_CACHE=/nowhere/cache');
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^missing +C\+\+ compiler .*\n +fix: /m);
  expect(stdout).toMatch(/^warning +addon +not built yet.*\n +fix: ip-adapter build/m);
});
