/** @file A run of the command that something happens to, and what it has left. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { lockFile } from '../../src/training/checkpoints/run-lock.js';
import { type Ended, runProgram } from './command.js';
import type { World } from './world.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const command = join(root, 'dist', 'cli', 'main.js');

/** `ip-adapter train` in the world, for longer than any test takes; later flags replace earlier ones. */
export function words(world: World, outputDir: string, ...more: string[]): string[] {
  return [
    command,
    'train',
    ...world.flags,
    '--output-dir',
    outputDir,
    ...['--epochs', '100000', '--max-steps', '5000'],
    ...more,
  ];
}

export function train(args: string[], onError?: (text: string, child: ChildProcess) => void): Promise<Ended> {
  return runProgram(process.execPath, args, { cwd: root, ...(onError && { onError }) });
}

/** Calls `work` when a program has written `text`, once. */
export function when(
  text: string,
  work: (child: ChildProcess) => void,
): (written: string, child: ChildProcess) => void {
  let isDone = false;
  return (written, child) => {
    if (isDone || !written.includes(text)) return;
    isDone = true;
    work(child);
  };
}

/** What a run has left, but for what is written at its start. */
export function leftIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name !== 'config.yaml' && name !== 'logs')
    .sort();
}

/** The losses of each step; speed and memory, told beside them, are another in each run. */
function lossesOf(folder: string): unknown[] {
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const { step, loss, grad_norm } = JSON.parse(line);
    return { step, loss, grad_norm };
  });
}

/** Checks that two runs have written the same weights, to the byte, and the same losses. */
export function expectSame(a: string, b: string, step: number): void {
  const files = ['ip_adapter', 'optimizer'].map((name) => `checkpoint-${step}/${name}.safetensors`);
  for (const file of files) {
    const [one, other] = [a, b].map((folder) => readFileSync(join(folder, file))) as [Buffer, Buffer];
    expect(Buffer.compare(one, other), file).toBe(0);
  }
  expect(lossesOf(a)).toEqual(lossesOf(b));
}

// The lock is a link to nowhere, which existsSync says is not there.
export function isLocked(folder: string): boolean {
  return readdirSync(folder).includes(lockFile);
}

export function stepsToldIn(folder: string): number[] {
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line).step);
}
