/**
 * @file Operator overhead and the heaviest shapes of SD 1.5 at 512 px, beside Python's PyTorch where a `python3`
 * with torch is there. Both sides take turns in one run; the medians and their ratio are printed.
 *
 *     npx tsx bench/ops.ts [rounds]
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { attention, conv2d } from '../src/nn/functional.js';
import { noGrad, ones, randn, tidy, torchVersion } from '../src/torch/index.js';

interface Operation {
  name: string;
  /** Calls per measurement. */
  count: number;
  /** Floating-point operations of one call; 0 where overhead is what is measured. */
  flop: number;
  run(): unknown;
}

const small = ones([4]);
const [q, k, v] = [randn([1, 8, 4096, 40]), randn([1, 8, 4096, 40]), randn([1, 8, 4096, 40])];
const [image, kernel] = [randn([1, 320, 64, 64]), randn([320, 320, 3, 3])];
const [a, b] = [randn([2048, 2048]), randn([2048, 2048])];

const operations: Operation[] = [
  { name: 'tiny op', count: 20_000, flop: 0, run: () => small.add(small) },
  { name: 'attention', count: 1, flop: 4 * 8 * 4096 * 4096 * 40, run: () => attention(q, k, v) },
  { name: 'conv', count: 2, flop: 2 * 320 * 320 * 9 * 64 * 64, run: () => conv2d(image, kernel, null, 1, 1) },
  { name: 'matmul', count: 1, flop: 2 * 2048 ** 3, run: () => a.matmul(b) },
];

function measure({ count, run }: Operation): number {
  const begin = performance.now();
  for (let i = 0; i < count; i++) tidy(() => void run());
  return (performance.now() - begin) / 1000 / count;
}

/** A python3 that has torch, or undefined. */
function findPython(): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (python) => spawnSync(python, ['-c', 'import torch']).status === 0,
  );
}

async function startReference(
  python: string,
): Promise<{ child: ChildProcessWithoutNullStreams; ask(operation: Operation): Promise<number> }> {
  const script = fileURLToPath(new URL('reference/ops.py', import.meta.url));
  const child = spawn(python, [script, String(availableParallelism())]);
  child.stderr.pipe(process.stderr);
  const lines = createInterface(child.stdout);
  return {
    child,
    async ask({ name, count }) {
      child.stdin.write(`${JSON.stringify({ name, count })}\n`);
      const [line] = await once(lines, 'line');
      return Number(line);
    },
  };
}

const median = (values: number[]): number => values.toSorted((x, y) => x - y)[values.length >> 1] as number;

const rounds = Number(process.argv[2] ?? 7);
const python = findPython();
const reference = python === undefined ? undefined : await startReference(python);
using _ = noGrad();

console.log(`LibTorch ${torchVersion}, ${availableParallelism()} × ${cpus()[0]?.model}, median of ${rounds}`);
console.log(['operation', 'ours', 'GFLOP/s', 'Python', 'ratio'].map((title) => title.padEnd(12)).join(''));
for (const operation of operations) {
  const ours: number[] = [];
  const theirs: number[] = [];
  // The first round warms up and does not count.
  for (let round = 0; round <= rounds; round++) {
    const mine = measure(operation);
    const other = await reference?.ask(operation);
    if (round === 0) continue;
    ours.push(mine);
    if (other !== undefined) theirs.push(other);
  }
  const seconds = median(ours);
  const show = (value: number): string =>
    operation.flop === 0 ? `${(value * 1e6).toFixed(2)} µs` : `${(value * 1e3).toFixed(1)} ms`;
  const row = [
    operation.name,
    show(seconds),
    operation.flop === 0 ? '' : (operation.flop / seconds / 1e9).toFixed(0),
    theirs.length === 0 ? 'no torch' : show(median(theirs)),
    theirs.length === 0 ? '' : `${(median(theirs) / seconds).toFixed(2)} ×`,
  ];
  console.log(row.map((cell) => cell.padEnd(12)).join(''));
}
reference?.child.stdin.end();
