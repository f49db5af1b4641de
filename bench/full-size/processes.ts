/** @file Starts the processes that measure a step, and reads what they print. */
import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
/** For Node to load first. */
export const flopCounter = here('flop.ts');

/** @param imports modules for Node to load before the step's */
export function runOurs<T>(args: readonly string[], imports: readonly string[] = []): T {
  const loaders = ['tsx', ...imports].flatMap((name) => ['--import', name]);
  return run(process.execPath, [...loaders, here('step.ts'), ...args]);
}

export function runPython<T>(python: string, args: readonly string[]): T {
  return run(python, [here('../reference/step.py'), ...args]);
}

function run<T>(command: string, args: readonly string[]): T {
  const { status, signal, stdout } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${command} ended with ${status ?? signal}`);
  return JSON.parse(stdout) as T;
}
