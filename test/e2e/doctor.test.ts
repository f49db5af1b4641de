import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runProgram } from './command.js';

const root = join(import.meta.dirname, '../..');
const command = [join(root, 'dist/cli/ip-adapter.cjs'), 'doctor'];

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
    'image threads',
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

it('has as many image threads as cores, its part of them as one of several processes, or as the user says', async () => {
  const threadsWith = async (...assignments: string[]): Promise<string | undefined> => {
    const { stdout } = await doctor(...assignments);
    return /image threads +(\d+)/.exec(stdout)?.[1];
  };
  const cores = availableParallelism();
  expect(await threadsWith()).toBe(String(Math.max(4, cores)));
  // The number of the process that started it is not the user's.
  const inherited = ['UV_THREADPOOL_SIZE=900', 'IP_ADAPTER_THREADPOOL=auto', 'LOCAL_WORLD_SIZE=2'];
  expect(await threadsWith(...inherited)).toBe(String(Math.max(4, Math.floor(cores / 2))));
  expect(await threadsWith('UV_THREADPOOL_SIZE=9')).toBe('9');
});

it('sets the number before Node starts the threads', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'threads-'));
  const shim = join(folder, 'cores.cjs');
  writeFileSync(
    shim,
    `require('node:os').availableParallelism = () => Number(process.env.CORES);
     process.on('exit', () => console.error('tasks ' + require('node:fs').readdirSync('/proc/self/task').length));`,
  );
  const tasks = async (cores: number): Promise<number> => {
    const { stderr } = await doctor(`CORES=${cores}`, `NODE_OPTIONS=--require=${shim}`);
    return Number(/tasks (\d+)/.exec(stderr)?.[1]);
  };
  expect((await tasks(23)) - (await tasks(7))).toBe(16);
  rmSync(folder, { recursive: true });
});
