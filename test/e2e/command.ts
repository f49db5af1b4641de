/** @file Runs a program as a shell does, and waits for its end. */
import { type ChildProcess, spawn } from 'node:child_process';

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
