/** @file Starts the processes of a test, and ends them with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const rankProgram = fileURLToPath(new URL('rank.mjs', import.meta.url));

export interface RankEnded {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
  /** Seconds from the start of all to the end of this one. */
  seconds: number;
}

export interface Rank {
  child: ChildProcess;
  ended: Promise<RankEnded>;
  /** Resolves when the process has written this to stderr. */
  said(text: string | RegExp): Promise<void>;
}

/**
 * Starts one process for each environment. What is left of them is killed when the test ends.
 * @param hosts the network namespaces of the processes; default: that of the test
 * @param folders the working folders of the processes; default: that of the test
 */
export function startRanks(
  args: readonly string[],
  environments: readonly NodeJS.ProcessEnv[],
  hosts: readonly string[] = [],
  folders: readonly string[] = [],
): Rank[] {
  const started = performance.now();
  return environments.map((env, rank) => {
    const host = hosts[rank];
    const program = [...(host === undefined ? [] : ['ip', 'netns', 'exec', host]), process.execPath, ...args];
    const child = spawn(program[0] as string, program.slice(1), {
      env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: folders[rank],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let [out, err] = ['', ''];
    const listeners = new Set<() => void>();
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
      for (const listener of listeners) listener();
    });
    const ended = new Promise<RankEnded>((resolve) =>
      child.on('close', (code, signal) =>
        resolve({ code, signal, out, err, seconds: (performance.now() - started) / 1000 }),
      ),
    );
    const said = (text: string | RegExp): Promise<void> =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (typeof text === 'string' ? !err.includes(text) : !text.test(err)) return;
          listeners.delete(look);
          resolve();
        };
        listeners.add(look);
        look();
        void ended.then(() => reject(new Error(`it ended without saying ${text}: ${err}`)));
      });
    return { child, ended, said };
  });
}

/** Returns the environments of n processes that find each other by a file. */
export function byFile(n: number): NodeJS.ProcessEnv[] {
  const folder = mkdtempSync(join(tmpdir(), 'ranks-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return numbered(n, { IP_ADAPTER_STORE_FILE: join(folder, 'store') });
}

/** Returns the environments of n processes that find each other at a port of this host. */
export async function byPort(n: number): Promise<NodeJS.ProcessEnv[]> {
  return numbered(n, { MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(await freePort()) });
}

function numbered(n: number, shared: NodeJS.ProcessEnv): NodeJS.ProcessEnv[] {
  return Array.from({ length: n }, (_, rank) => ({
    ...shared,
    RANK: String(rank),
    WORLD_SIZE: String(n),
    LOCAL_RANK: String(rank),
    LOCAL_WORLD_SIZE: String(n),
  }));
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
