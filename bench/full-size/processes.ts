/** @file Starts the measuring processes and parses their output. */
import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
/** The module that Node must import first to count operations. */
export const flopCounter = here('flop.ts');

/** @param imports modules that Node imports first */
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
  if (status !== 0) throw new Error(`${command} failed with ${status ?? signal}`);
  return JSON.parse(stdout) as T;
}
