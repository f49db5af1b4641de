/**
 * @file Our code and Python's PyTorch take turns in one run, since machines are noisy; medians and their ratio are
 * printed. Python's side is a script in bench/reference that reads `{"name", "count"}` from its standard input, a line
 * each, and answers with seconds per call. Where no `python3` has torch, our side is measured alone.
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
  /** Floating-point operations of one call, where their rate is of interest. */
  flop?: number;
  run(): unknown;
}

/**
 * @param script in bench/reference; it gets the number of threads and `args`
 * @param rounds measurements of each side, after one that does not count
 */
export async function sideBySide(
  operations: readonly Operation[],
  { script, args = [], rounds }: { script: string; args?: string[]; rounds: number },
): Promise<void> {
  const threads = availableParallelism();
  const reference = await startReference(script, [String(threads), ...args]);
  console.log(`LibTorch ${torchVersion()}, ${threads} × ${cpus()[0]?.model.trim()}, median of ${rounds}`);
  printRow(['operation', 'ours', 'GFLOP/s', 'Python', 'Python / ours']);
  for (const operation of operations) {
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      const mine = measure(operation);
      const other = await reference?.ask(operation);
      if (round === 0) continue;
      ours.push(mine);
      if (other !== undefined) theirs.push(other);
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

/** A Python that has the modules, or undefined. */
export function findPython(modules = 'torch'): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (command) => spawnSync(command, ['-c', `import ${modules}`]).status === 0,
  );
}

/** Starts a script in bench/reference; `ask` gives seconds per call. */
export async function startReference(
  script: string,
  args: string[],
  modules?: string,
): Promise<{ ask(operation: Pick<Operation, 'name' | 'count'>): Promise<number>; end(): void } | undefined> {
  const python = findPython(modules);
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
      .map((cell) => cell.padEnd(16))
      .join('')
      .trimEnd(),
  );
}
