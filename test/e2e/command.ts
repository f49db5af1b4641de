/** @file Runs a program as a shell does, and waits for its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Ended {
  exitCode: number | null;
  /** Without the last line break, both. */
  stdout: string;
  stderr: string;
}

/** @param onError sees what the program has written to stderr whenever there is more, and `onOutput` that of stdout */
export function runProgram(
  file: string,
  args: readonly string[],
  {
    cwd,
    env,
    onError,
    onOutput,
  }: {
    cwd: string;
    env?: NodeJS.ProcessEnv;
    onError?: (text: string, child: ChildProcess) => void;
    onOutput?: (text: string, child: ChildProcess) => void;
  },
): Promise<Ended> {
  const child = spawn(file, args, { cwd, env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
    onOutput?.(stdout, child);
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
    onError?.(stderr, child);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode) =>
      resolve({ exitCode, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() }),
    );
  });
}

/** The built command. */
export const ipAdapter = fileURLToPath(new URL('../../dist/cli/ip-adapter.cjs', import.meta.url));

interface Finished {
  code: number | null;
  signal: string | null;
  out: string;
  err: string;
}

/** Starts the built command, as a user's shell does. `onError` sees what it has written to stderr whenever there is more. */
export function start(
  args: readonly string[],
  onError?: (text: string, child: ChildProcess) => void,
): Promise<Finished> {
  const child = spawn(process.execPath, [ipAdapter, ...args]);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
    onError?.(err, child);
  });
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, out, err })));
}
