/**
 * @file The training step at full size (SD 1.5, CLIP ViT-H, batch 1, float32) by phase, ours beside the same maths in
 * Python's PyTorch, each in a process of its own. PyTorch's default may be one thread (Debian's is): it is measured with
 * that, and with every core.
 *
 *     npm run bench -- [--resolution 512] [--resolution 256] [--steps 3] [--models FOLDER]
 *
 * The demo's step comes before it (demo-step.ts). The models of full size have random weights (6.8 GB, written once into
 * the folder); both sides read the same files and inputs, and their losses are compared. The first step of a process does
 * not count.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  Generator,
  noGrad,
  randint,
  randn,
  tidy,
  torchVersion,
  writeSafetensors,
} from '../src/torch/index.js';
import { compareDemoStep } from './demo-step.js';
import { type Measured, type Phase, phases } from './full-size/measured.js';
import { writeFullSizeModels } from './full-size/models.js';
import { findPython, median } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    resolution: { type: 'string', multiple: true, default: ['256', '512'] },
    steps: { type: 'string', default: '3' },
    models: { type: 'string', default: 'build/full-size' },
  },
});
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const python = findPython();
/** The first does not count. */
const stepCount = String(Number(values.steps) + 1);

mkdirSync(values.models, { recursive: true });
writeFullSizeModels(values.models);
await compareDemoStep(9);
const peak = matmulRate();
console.log(
  `LibTorch ${torchVersion}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, 2048³ product ${peak.toFixed(0)} GFLOP/s`,
);
for (const resolution of values.resolution.map(Number)) {
  const inputs = join(values.models, `inputs-${resolution}.safetensors`);
  writeInputs(inputs, resolution);
  printSteps(resolution, {
    ours: measureOurs(inputs),
    oursCached: measureOurs(inputs, 'cached'),
    oursCheckpointing: measureOurs(inputs, 'cached', 'checkpointing'),
    python: measurePython(inputs, availableParallelism()),
    pythonDefault: measurePython(inputs, 0),
  });
}

function measureOurs(inputs: string, ...modes: string[]): Measured {
  const loaders = ['--import', 'tsx', '--import', here('full-size/flop.ts')];
  return measure(process.execPath, [
    ...loaders,
    here('full-size/step.ts'),
    values.models,
    inputs,
    stepCount,
    ...modes,
  ]);
}

/** @param threads 0: as many as PyTorch takes by itself */
function measurePython(inputs: string, threads: number): Measured | undefined {
  if (python === undefined) return undefined;
  return measure(python, [here('reference/step.py'), values.models, inputs, stepCount, String(threads)]);
}

function measure(command: string, args: readonly string[]): Measured {
  const { status, stdout } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${command} ended with ${status}`);
  return JSON.parse(stdout) as Measured;
}

interface Sides {
  ours: Measured;
  oursCached: Measured;
  oursCheckpointing: Measured;
  python: Measured | undefined;
  pythonDefault: Measured | undefined;
}

function printSteps(resolution: number, sides: Sides): void {
  const { ours, oursCached, oursCheckpointing, python, pythonDefault } = sides;
  console.log(`\n${resolution} px, seconds (median of ${values.steps})`);
  row(['', ...phases, 'step', 'peak RSS', 'start']);
  printSide('Python, its defaults', pythonDefault);
  printSide('Python, every core', python);
  printSide('ours', ours);
  printWork(ours);
  printSide('ours, encoders cached', oursCached);
  printWork(oursCached);
  printSide('  and checkpointing', oursCheckpointing);
  printWork(oursCheckpointing);
  if (python === undefined || pythonDefault === undefined) return;
  for (const [name, theirs] of Object.entries({ 'every core': python, 'its defaults': pythonDefault })) {
    const faster = [ours, oursCached].map((mine) => (stepSeconds(theirs) / stepSeconds(mine)).toFixed(2));
    const smaller = [ours, oursCached].map((mine) => (mine.peakRss / theirs.peakRss).toFixed(2));
    console.log(
      `Python with ${name} / ours: ${faster.join(', cached ')}; peak RSS, ours / Python: ${smaller.join(', cached ')}`,
    );
  }
  const differences = ours.losses.map((loss, i) => Math.abs(loss / (python.losses[i] as number) - 1));
  console.log(`losses differ by at most ${Math.max(...differences).toExponential(1)} (relative)`);
}

function printSide(name: string, measured: Measured | undefined): void {
  if (measured === undefined) return;
  const seconds = phases.map((phase) => secondsOf(measured, phase));
  row([
    name,
    ...seconds.map((value) => (Number.isNaN(value) ? '' : value.toFixed(2))),
    stepSeconds(measured).toFixed(2),
    `${(measured.peakRss / 2 ** 30).toFixed(1)} GiB`,
    measured.startUp.toFixed(1),
  ]);
}

/** How fast the operations of each phase are, and what is in memory. */
function printWork(measured: Measured): void {
  const { flop, rss, peakInUse } = measured;
  const rates = phases.map((phase) => (flop[phase] ?? 0) / secondsOf(measured, phase) / 1e9);
  const total = Object.values(flop).reduce((sum, count) => sum + count, 0);
  const rate = total / stepSeconds(measured) / 1e9;
  const share = `${rate.toFixed(0)} (${((100 * rate) / peak).toFixed(0)} %)`;
  row(['  GFLOP/s', ...rates.map((value) => (value > 0 ? value.toFixed(0) : '')), share]);
  const gib = (bytes = 0): string => (bytes / 2 ** 30).toFixed(2);
  console.log(
    `  ${(total / 1e9).toFixed(0)} GFLOP a step; tensors at most ${gib(peakInUse)} GiB; resident after step 2 ${gib(rss[1])}, after the last ${gib(rss.at(-1))} GiB`,
  );
}

function secondsOf({ steps }: Measured, phase: Phase): number {
  const all = steps.slice(1).flatMap((step) => step[phase] ?? []);
  return all.length === 0 ? Number.NaN : median(all);
}

function stepSeconds({ steps }: Measured): number {
  return median(steps.slice(1).map((step) => Object.values(step).reduce((sum, value) => sum + value, 0)));
}

function matmulRate(): number {
  using _ = noGrad();
  const [a, b] = [randn([2048, 2048]), randn([2048, 2048])];
  const seconds = Array.from({ length: 8 }, () => {
    const begin = performance.now();
    tidy(() => void a.matmul(b));
    return (performance.now() - begin) / 1000;
  });
  for (const matrix of [a, b]) matrix.dispose();
  return (2 * 2048 ** 3) / median(seconds) / 1e9;
}

function writeInputs(file: string, resolution: number): void {
  const generator = new Generator('cpu', 1);
  const latent = [1, 4, resolution / 8, resolution / 8];
  const random = (...shape: number[]) => randn(shape, { generator });
  const integers = (bound: number, ...shape: number[]) => randint(0, bound, shape, { generator });
  tidy(() =>
    writeSafetensors(
      file,
      new Map([
        ['pixels', random(1, 3, resolution, resolution).clamp(-1, 1)],
        ['clip_pixels', random(1, 3, 224, 224)],
        ['input_ids', integers(49408, 1, 77)],
        ['sample', random(...latent)],
        ['noise', random(...latent)],
        ['timesteps', integers(1000, 1)],
        ['latents', random(...latent)],
        ['image', random(1, 257, 1280)],
        ['text', random(1, 77, 768)],
      ]),
    ),
  );
}

function row(cells: readonly string[]): void {
  const [first = '', ...others] = cells;
  console.log(first.padEnd(24) + others.map((cell) => cell.padStart(15)).join(''));
}
