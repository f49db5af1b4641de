/**
 * @file Benchmarks our code and PyTorch alternately within one run, since the machine's speed varies, and prints medians and
 * their ratio. PyTorch's side is a script in bench/reference that reads lines of `{"name", "count"}` from its standard input
 * and answers each with seconds per call. Without a `python3` that has torch, only our side is measured.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { tidy, torchVersion } from '../src/torch/index.js';

export interface Operation {
  name: string;
  /** Calls per measurement. */
  count: number;
  /** Floating-point operations of one call, to print their rate. */
  flop?: number;
  run(): unknown;
}

/**
 * Measures and prints each operation.
 * @param script in bench/reference; its arguments are the number of threads and `args`
 * @param rounds measurements of each side, after one warm-up
 * @param python with torch; default: the system's, if it has it
 */
export async function sideBySide(
  operations: readonly Operation[],
  {
    script,
    args = [],
    rounds,
    python = findPython(),
  }: { script: string; args?: string[]; rounds: number; python?: string | undefined },
): Promise<void> {
  const threads = availableParallelism();
  const reference = await startReference(script, [String(threads), ...args], python);
  console.log(`LibTorch ${torchVersion()}, ${threads} × ${cpus()[0]?.model.trim()}, median of ${rounds}`);
  printRow(['operation', 'ours', 'GFLOP/s', 'Python', 'Python / ours']);
  for (const operation of operations) {
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      const ourSeconds = measure(operation);
      const theirSeconds = await reference?.ask(operation);
      if (round === 0) continue;
      ours.push(ourSeconds);
      if (theirSeconds !== undefined) theirs.push(theirSeconds);
    }
    const seconds = median(ours);
    const python =
      theirs.length === 0 ? ['no torch', ''] : [show(median(theirs)), (median(theirs) / seconds).toFixed(2)];
    const rate = operation.flop === undefined ? '' : (operation.flop / seconds / 1e9).toFixed(0);
    printRow([operation.name, show(seconds), rate, ...python]);
  }
  reference?.end();
}

function measure({ count, run }: Operation): number {
  const begin = performance.now();
  for (let i = 0; i < count; i++) tidy(() => void run());
  return (performance.now() - begin) / 1000 / count;
}

/** Returns a Python interpreter that has the modules; undefined where there is none. */
export function findPython(modules = 'torch'): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (command) => spawnSync(command, ['-c', `import ${modules}`]).status === 0,
  );
}

/** Starts a script in bench/reference; `ask` returns seconds per call. */
export async function startReference(
  script: string,
  args: string[],
  python: string | undefined,
): Promise<{ ask(operation: Pick<Operation, 'name' | 'count'>): Promise<number>; end(): void } | undefined> {
  if (python === undefined) return undefined;
  const path = fileURLToPath(new URL(`reference/${script}`, import.meta.url));
  const child = spawn(python, [path, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout);
  return {
    async ask({ name, count }) {
      child.stdin.write(`${JSON.stringify({ name, count })}\n`);
      const [line] = (await once(lines, 'line')) as [string];
      return Number(line);
    },
    end: () => child.stdin.end(),
  };
}

function show(seconds: number): string {
  return seconds < 1e-3 ? `${(seconds * 1e6).toFixed(2)} µs` : `${(seconds * 1e3).toFixed(1)} ms`;
}

export function median(values: readonly number[]): number {
  return values.toSorted((x, y) => x - y)[values.length >> 1] as number;
}

export function printRow(cells: readonly string[]): void {
  console.log(
    cells
      .map((cell) => cell.padEnd(24))
      .join('')
      .trimEnd(),
  );
}
