/**
 * @file Starts the processes of one host, which find each other by a file in a private folder, and ends them together: with
 * the first that fails, or when this process is asked to stop.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { storeFileVariable } from './environment.js';

/** The exit code of a process that has lost the others: another one is the cause. */
export const LOST_OTHERS = 3;

/** The exit code of a process that has stopped with the others, because one of them was asked to: as of SIGTERM. */
export const STOPPED = 143;

/** After the first failure, the others get this long to end by themselves: one of them may be the cause. */
const CAUSE_MS = 1000;
/** From the request to end to the kill. */
const KILL_AFTER_MS = 5000;

export interface LaunchOptions {
  /** The number of processes. */
  count: number;
  /** The program's arguments, for Node. */
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Asks all processes to stop, once. Each then ends in its own time. */
  signal: AbortSignal;
  /** Receives the lines that ranks above 0 write to standard error. Rank 0 has the standard error of this process. */
  onLine(rank: number, line: string): void;
}

/** The end of the process whose failure ended the others. */
export interface Failure {
  rank: number;
  pid: number;
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Whether it did not end when all others had lost it. */
  hung: boolean;
}

interface Ended {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
}

/**
 * Runs the processes to their end.
 * @returns the failure that ended them; 'stopped' where they stopped because one was asked to; otherwise undefined
 */
export async function launch(options: LaunchOptions): Promise<Failure | 'stopped' | undefined> {
  // Only this user can enter it.
  const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-'));
  try {
    return await supervise(options, join(folder, 'store'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function supervise(
  options: LaunchOptions,
  storeFile: string,
): Promise<Failure | 'stopped' | undefined> {
  const { count, signal } = options;
  const children = Array.from({ length: count }, (_, rank) => start(rank, options, storeFile));
  const failed: Ended[] = [];
  let isStopped = false;
  const running = (): number[] =>
    [...children.keys()].filter((rank) => isRunning(children[rank] as ChildProcess));
  const send = (name: NodeJS.Signals): void => {
    for (const rank of running()) children[rank]?.kill(name);
  };
  let onFailure: (() => void) | undefined;
  const firstFailure = new Promise<void>((resolve) => {
    onFailure = resolve;
  });
  const ends = children.map(async (child, rank) => {
    const end = await endOf(child, rank);
    if (end.code === STOPPED) isStopped = true;
    else if (end.code !== 0) {
      failed.push(end);
      onFailure?.();
    }
  });
  const all = Promise.all(ends);
  const stop = (): void => send('SIGTERM');
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  try {
    await Promise.race([all, firstFailure]);
    if (failed.length === 0) return isStopped ? 'stopped' : undefined;
    await Promise.race([all, sleep(CAUSE_MS)]);
    const cause = causeOf(failed);
    send('SIGTERM');
    await Promise.race([all, sleep(KILL_AFTER_MS)]);
    const [hanging] = running();
    send('SIGKILL');
    await all;
    if (cause.code !== LOST_OTHERS) return failureOf(cause, children);
    // All others have lost it, and it did not end.
    if (hanging !== undefined)
      return { ...failureOf({ rank: hanging, code: null, signal: null }, children), hung: true };
    return isStopped ? 'stopped' : failureOf(cause, children);
  } finally {
    signal.removeEventListener('abort', stop);
    send('SIGKILL');
  }
}

function failureOf(end: Ended, children: readonly ChildProcess[]): Failure {
  return { ...end, pid: children[end.rank]?.pid ?? 0, hung: false };
}

function start(rank: number, { count, args, env, onLine }: LaunchOptions, storeFile: string): ChildProcess {
  const child = spawn(process.execPath, args, {
    env: {
      ...env,
      RANK: String(rank),
      WORLD_SIZE: String(count),
      LOCAL_RANK: String(rank),
      LOCAL_WORLD_SIZE: String(count),
      [storeFileVariable]: storeFile,
    },
    // A process notices by the channel that this one was killed.
    stdio: rank === 0 ? ['ignore', 'inherit', 'inherit', 'ipc'] : ['ignore', 'ignore', 'pipe', 'ipc'],
    // In a group of its own: Ctrl-C reaches this process only, which passes it on once.
    detached: true,
  });
  if (child.stderr !== null)
    createInterface({ input: child.stderr }).on('line', (line) => onLine(rank, line));
  return child;
}

function endOf(child: ChildProcess, rank: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ rank, code, signal }));
  });
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

/** Returns the failure that explains the others: a process that has only lost another one explains nothing. */
function causeOf(failed: readonly Ended[]): Ended {
  return failed.find(({ code }) => code !== LOST_OTHERS) ?? (failed[0] as Ended);
}

/** Returns what to tell about a failure. */
export function describeFailure({ rank, pid, code, signal, hung }: Failure): string {
  const who = `rank ${rank} (process ${pid})`;
  if (hung) return `${who} hung and was killed`;
  if (signal === null) return `${who} failed with exit code ${code}; its message is above`;
  const reasons: Partial<Record<NodeJS.Signals, string>> = {
    SIGKILL: ', as the system does where memory ends (dmesg says so)',
    SIGABRT: ': NCCL ends a process so where a collective takes longer than --distributed-timeout',
  };
  return `${who} was ended by ${signal}${reasons[signal] ?? ''}`;
}

/** Returns a failure's exit code, as a shell gives it. */
export function exitCodeOf({ code, signal }: Failure): number {
  return code ?? (signal === null ? 1 : 128 + constants.signals[signal]);
}
