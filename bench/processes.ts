/**
 * @file Benchmarks training in two processes, one thread each, on the demo's models (64 px, encoders cached, 24 rows a
 * process): beside two trainings that know nothing of each other, and beside PyTorch's DistributedDataParallel on Gloo with
 * the same model, which is held against two independent ones of PyTorch too. All take turns within one run; ratios are
 * medians of the rounds. Processes that take each step together wait for the slower one: what that alone would cost is
 * computed from the steps of the independent ones. The memory is the peak of each process.
 *
 *     npx tsx bench/processes.ts [--rounds 5] [--steps 16] [--python python3]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeDataset } from '../demo/world/dataset.js';
import { writeAdapter } from '../src/adapters/adapter-file.js';
import { openImageEncoder } from '../src/adapters/image-encoder.js';
import type { StepEvent } from '../src/base/run-context.js';
import { mean } from '../src/base/statistics.js';
import { openDiffusionModel } from '../src/diffusion/open-model.js';
import { writeSafetensors } from '../src/formats/index.js';
import { Generator, randint, randn, torchVersion } from '../src/torch/index.js';
import { createAdapter } from '../src/training/setup.js';
import { peaksUntil, ranksOf } from './peak-memory.js';
import { findPython, median } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    steps: { type: 'string', default: '16' },
    python: { type: 'string' },
  },
});
const steps = Number(values.steps);
const python = values.python ?? findPython();
/** Steps that are not measured: pages are mapped, and memory is allocated. */
const WARM_UP = 4;
const ROWS = 24;
const models = 'demo/models';
const work = mkdtempSync(join(tmpdir(), 'bench-'));

interface Measured {
  /** Images a second. */
  rate: number;
  /** Peak GiB of each process. */
  peaks: number[];
  /** Seconds of each step. */
  seconds: number[];
}

// All are sessions of their own, as --num-processes starts its own: Linux shares the cores out by session.
function start(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(program, args, {
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
}

async function success(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`a process ended with exit code ${code}`);
  return text;
}

/** Trains with the built command. @param more flags */
async function train(name: string, rowsOfStep: number, ...more: string[]): Promise<Measured> {
  const outputDir = join(work, name);
  const flags = {
    ...{
      model: models,
      'image-encoder': join(models, 'image_encoder'),
      dataset: join(work, 'data/dataset.json'),
    },
    ...{ 'output-dir': outputDir, resolution: 64, 'batch-size': ROWS, 'max-steps': steps },
    ...{ cache: 'latents,text,image', 'cache-dir': join(work, 'cache'), 'report-to': 'none' },
  };
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const child = spawn(process.execPath, ['dist/cli/ip-adapter.cjs', 'train', ...words, ...more], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: 'ignore',
    detached: true,
  });
  const pid = child.pid as number;
  const pids = more.includes('--num-processes') ? () => ranksOf(pid) : () => [pid];
  const peaks = await peaksUntil(success(child), pids);
  const events = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as StepEvent);
  rmSync(outputDir, { recursive: true });
  const times = events.slice(WARM_UP - 1).map(({ time }) => time);
  const seconds = times.slice(1).map((time, i) => time - (times[i] as number));
  return { rate: rowsOfStep / mean(seconds), peaks, seconds };
}

/** Takes the same steps with PyTorch, its inputs in memory: by DistributedDataParallel, or twice by itself. @returns the rate and peaks of both */
async function trainByPyTorch(isTogether: boolean): Promise<Omit<Measured, 'seconds'>> {
  const measured = await Promise.all(
    (isTogether ? [await freePort()] : [await freePort(), await freePort()]).flatMap((port) =>
      (isTogether ? [0, 1] : [0]).map(async (rank) => {
        const env = {
          ...{ RANK: `${rank}`, WORLD_SIZE: isTogether ? '2' : '1' },
          ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: `${port}` },
        };
        const words = ['bench/reference/ddp_step.py', join(models, 'unet'), ...files];
        const numbers = [String(steps - WARM_UP), String(WARM_UP)];
        const child = start(python as string, [...words, ...numbers], env);
        const ended = success(child);
        const peaks = await peaksUntil(ended, () => [child.pid as number]);
        return { rate: ROWS / Number(await ended), peaks };
      }),
    ),
  );
  return {
    rate: measured.reduce((sum, { rate }) => sum + rate, 0),
    peaks: measured.flatMap(({ peaks }) => peaks),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

/** Writes the weights and inputs that PyTorch starts from. */
function writeForPyTorch(): string[] {
  const generator = new Generator('cpu', 0);
  const backbone = openDiffusionModel(models).loadBackbone({ dtype: 'float32', device: 'cpu' });
  const { adapter } = createAdapter(
    { backbone, imageEncoder: openImageEncoder(join(models, 'image_encoder')) },
    { numTokens: 16, seed: 0 },
    undefined,
    'cpu',
  );
  const paths = [join(work, 'adapter.safetensors'), join(work, 'inputs.safetensors')] as const;
  writeAdapter(paths[0], adapter.namedParameters());
  const inputs = {
    latents: randn([ROWS, 4, 8, 8], { generator }),
    noise: randn([ROWS, 4, 8, 8], { generator }),
    timesteps: randint(0, 1000, [ROWS], { generator }),
    text: randn([ROWS, 32, 128], { generator }),
    image: randn([ROWS, 65, 128], { generator }),
  };
  writeSafetensors(paths[1], new Map(Object.entries(inputs)));
  return [...paths];
}

/** The share that is left of two trainings' rates if each step takes as long as the slower one of both. */
function shareWithWaiting([one, other]: readonly [Measured, Measured]): number {
  const together = one.seconds.map((seconds, i) => Math.max(seconds, other.seconds[i] as number));
  return 2 / mean(together) / (1 / mean(one.seconds) + 1 / mean(other.seconds));
}

function shown(measured: Omit<Measured, 'seconds'> | undefined): string {
  if (measured === undefined) return 'no torch';
  const peaks = measured.peaks.map((peak) => peak.toFixed(2)).join(' and ');
  return `${measured.rate.toFixed(1)} (${peaks} GiB)`;
}

const files = writeForPyTorch();
try {
  await writeDataset(join(work, 'data'), { count: 480, split: 'train', seed: 1 });
  await train('fill the cache', ROWS);
  console.log(`LibTorch ${torchVersion()}, ${cpus().length} × ${cpus()[0]?.model.trim()}, images a second`);
  const ratios: number[] = [];
  const waiting: number[] = [];
  const ddpRatios: number[] = [];
  const ratiosOfPyTorch: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const independent = await Promise.all([train('one', ROWS), train('other', ROWS)]);
    const together = await train('together', 2 * ROWS, '--num-processes', '2');
    const ddp = python === undefined ? undefined : await trainByPyTorch(true);
    const independentOfPyTorch = python === undefined ? undefined : await trainByPyTorch(false);
    const sum = independent.reduce((total, { rate }) => total + rate, 0);
    ratios.push(together.rate / sum);
    waiting.push(shareWithWaiting(independent));
    if (ddp !== undefined) {
      ddpRatios.push(together.rate / ddp.rate);
      ratiosOfPyTorch.push(ddp.rate / (independentOfPyTorch as typeof ddp).rate);
    }
    const peaks = independent.flatMap(({ peaks }) => peaks);
    console.log(
      [
        `two independent ${shown({ rate: sum, peaks })}`,
        `two processes ${shown(together)}`,
        `PyTorch's DDP ${shown(ddp)}`,
        `two independent of PyTorch ${shown(independentOfPyTorch)}`,
      ].join(', '),
    );
  }
  console.log(
    `two processes / two independent: ${median(ratios).toFixed(2)}; waiting for the slower one alone: ${median(waiting).toFixed(2)}`,
  );
  if (ddpRatios.length > 0) {
    console.log(`two processes / PyTorch's DDP: ${median(ddpRatios).toFixed(2)}`);
    console.log(`PyTorch's DDP / two independent of PyTorch: ${median(ratiosOfPyTorch).toFixed(2)}`);
  }
} finally {
  rmSync(work, { recursive: true });
}
