/**
 * @file One run at a time in an output folder. The lock is a symbolic link whose target is the owner as JSON: it is made
 * in one step, so it is never half written, whatever the moment of a kill.
 *
 * A run that was killed leaves its lock behind. On its own host it is recognised by its process: that is gone, or was
 * started at another time (process ids are used again), and the lock is taken over. Of another host nothing can be known.
 */
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { ConfigError } from '../../base/errors.js';

export const lockFile = '.lock';

interface Owner {
  pid: number;
  host: string;
  /** Start of the process, in the kernel's ticks since boot; undefined where the kernel does not tell (macOS). */
  ticks: string | undefined;
  /** When the lock was taken, ISO 8601. */
  since: string;
}

/**
 * Makes the output folder where it is missing, and locks it until disposed. Disposing takes the folder away again, and
 * what was made around it, where nothing was written into it.
 * @throws ConfigError where another run has it, or where it cannot be written in
 */
export function lockRun(outputDir: string, onMessage?: (message: string) => void): Disposable {
  const file = join(outputDir, lockFile);
  const made = makeFolder(outputDir);
  const own = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    ticks: startOf(process.pid),
    since: new Date().toISOString(),
  } satisfies Owner);
  // Again where a lock was taken over.
  while (!tryLock(outputDir, file, own)) takeOver(outputDir, file, onMessage);
  return {
    [Symbol.dispose]: () => {
      rmSync(file, { force: true });
      if (made !== undefined) removeEmpty(outputDir, made);
    },
  };
}

/** @returns the first folder on the way to it that was missing, or itself; undefined where it was there */
function makeFolder(outputDir: string): string | undefined {
  try {
    const made = mkdirSync(outputDir, { recursive: true });
    accessSync(outputDir, constants.W_OK);
    return made;
  } catch (error) {
    throw notWritable(outputDir, error as Error);
  }
}

/** Removes a folder and those around it, up to `last`, as far as they are empty. */
function removeEmpty(folder: string, last: string): void {
  for (let path = resolve(folder); readdirSync(path).length === 0; path = dirname(path)) {
    rmdirSync(path);
    if (path === resolve(last)) return;
  }
}

function notWritable(outputDir: string, cause: Error): ConfigError {
  return new ConfigError(
    `Expected a folder to write in for --output-dir (outputDir) but received ${outputDir}: ${cause.message}`,
    { cause },
  );
}

function tryLock(outputDir: string, file: string, own: string): boolean {
  try {
    symlinkSync(own, file);
    return true;
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false;
    throw notWritable(outputDir, error as Error);
  }
}

/** Removes the lock of a run that was killed. */
function takeOver(outputDir: string, file: string, onMessage?: (message: string) => void): void {
  const lock = readLock(file);
  if (lock === undefined) return;
  const { pid, host, ticks, since } = JSON.parse(lock) as Owner;
  const owner = `process ${pid} on ${host}, since ${since}`;
  if (host !== hostname())
    throw new ConfigError(
      `${outputDir} is in use by ${owner}. If that run is no more, delete ${file}; or give another --output-dir`,
    );
  if (ticks === undefined ? exists(pid) : startOf(pid) === ticks)
    throw new ConfigError(
      `${outputDir} is in use by ${owner}. Wait for its end, or give another --output-dir; if that process is no training, delete ${file}`,
    );
  // Of two runs that take over at the same time one finds that it has moved the other's new lock, and puts it back.
  const moved = `${file}.${process.pid}`;
  renameSync(file, moved);
  if (readLock(moved) !== lock) renameSync(moved, file);
  else {
    rmSync(moved);
    onMessage?.(`${outputDir} was in use by ${owner}, which was killed`);
  }
}

function readLock(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** When a process was started; undefined where there is none of that id. One that waits to be reaped is none. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ESRCH')) return undefined;
    throw error;
  }
  // The second field, the name, may have spaces and brackets in it.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' ? undefined : fields[18];
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !isCode(error, 'ESRCH');
  }
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code;
}
