/** @file `--on-event`: a command of the user's, told of what happens. */
import { spawn } from 'node:child_process';
import type { StudioEvent } from './watcher.js';

/** Runs a command in a shell with an event as JSON on its standard input. What fails is only reported. */
export function runHook(command: string | undefined, event: StudioEvent): void {
  if (command === undefined) return;
  const child = spawn(command, { shell: true, stdio: ['pipe', 'ignore', 'inherit'] });
  const report = (why: string): boolean => process.stderr.write(`--on-event ${command}: ${why}\n`);
  child.on('error', ({ message }) => report(message));
  child.on('exit', (code) => code !== 0 && report(`ended with code ${code}`));
  // It may not read its input.
  child.stdin.on('error', () => {});
  child.stdin.end(`${JSON.stringify(event)}\n`);
}
