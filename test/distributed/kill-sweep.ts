/** @file A run of two processes that is killed at a change of the file system, and resumed. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { listCheckpoints } from '../../src/adapters/adapter-path.js';
import { verifyCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import { type Ended, ipAdapter, runProgram } from '../e2e/command.js';
import type { World } from '../e2e/world.js';
import { bytesOf, trainWords } from './runs.js';

const preload = fileURLToPath(new URL('../fault-injection.mjs', import.meta.url));

export interface Change {
  number: number;
  path: string;
}

function train(world: World, name: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const words = trainWords(world, name, {
    ...{ processes: 2, rows: 4, max_train_steps: 4, save_steps: 1, checkpoints_total_limit: 1 },
    ...{ cache: 'latents,text,image', resume: 'auto' },
  });
  const injected = env.FAULT_ROOT === undefined ? [] : ['--import', preload];
  return runProgram(process.execPath, [...injected, ipAdapter, ...words], {
    cwd: process.cwd(),
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
  });
}

/** Runs without a fault. @returns the changes of the file system, each counted by its process */
export async function changesOf(world: World): Promise<Change[]> {
  const log = join(world.root, 'changes');
  const { exitCode, stderr } = await train(world, 'unharmed', {
    FAULT_ROOT: join(world.root, 'unharmed'),
    FAULT_LOG: log,
  });
  expect(exitCode, stderr).toBe(0);
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const [number, , ...path] = line.split(' ');
    return { number: Number(number), path: path.join(' ') };
  });
}

/** Kills the process that comes first to its n-th change. The resumed run ends as the unharmed one. */
export async function killAt(world: World, change: Change): Promise<void> {
  const { exitCode, stderr } = await failAt(world, change, 'KILL');
  expect(exitCode, change.path).toBe(137);
  expect(stderr, change.path).toMatch(/rank \d \(process \d+\) was ended by SIGKILL/);
}

/**
 * Runs with a fault at the n-th change of the process that comes to it first, and resumes, which ends as the unharmed run.
 * @param fault KILL, or an error code such as ENOSPC
 * @returns how the run with the fault ended
 */
export async function failAt(world: World, { number, path }: Change, fault: string): Promise<Ended> {
  const name = `${fault}-at-${number}`;
  const where = `${fault} at change ${number}, ${path}`;
  const failed = await train(world, name, {
    FAULT_ROOT: join(world.root, name),
    FAULT: fault,
    FAULT_AT: String(number),
  });
  const newest = listCheckpoints(join(world.root, name)).at(-1);
  if (newest !== undefined) verifyCheckpoint(newest);
  const resumed = await train(world, name);
  expect(resumed.exitCode, `${where}: ${resumed.stderr}`).toBe(0);
  for (const file of ['optimizer.safetensors', 'ip_adapter.safetensors'])
    expect(bytesOf(world, name, 4, file).equals(bytesOf(world, 'unharmed', 4, file)), where).toBe(true);
  rmSync(join(world.root, name), { recursive: true });
  return failed;
}
