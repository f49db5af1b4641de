/**
 * @file The training step at full size (SD 1.5, CLIP ViT-H, batch 1, float32) by phase, ours beside the same maths in
 * Python's PyTorch at its defaults, each in processes of its own that take turns.
 *
 *     npm run bench -- [--resolution 512] [--resolution 256] [--steps 3] [--models FOLDER]
 *
 * The models have random weights (6.8 GB, written once into the folder); both sides read the same files and inputs, and
 * their losses are compared. The first step of a process does not count.
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

mkdirSync(values.models, { recursive: true });
writeFullSizeModels(values.models);
const peak = matmulRate();
console.log(
  `LibTorch ${torchVersion}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, 2048³ product ${peak.toFixed(0)} GFLOP/s`,
);
for (const resolution of values.resolution.map(Number)) {
  const inputs = join(values.models, `inputs-${resolution}.safetensors`);
  writeInputs(inputs, resolution);
  const ours = measure('ours', inputs, false);
  const theirs = measure('python', inputs, false);
  const oursCached = measure('ours', inputs, true);
  printSteps(resolution, { ours, theirs, oursCached });
}

function measure(side: 'ours' | 'python', inputs: string, isCached: boolean): Measured | undefined {
  if (side === 'python' && python === undefined) return undefined;
  const args = [values.models, inputs, String(Number(values.steps) + 1), isCached ? '1' : '0'];
  const [command, ...before] =
    side === 'ours'
      ? [
          process.execPath,
          '--import',
          'tsx',
          '--import',
          here('full-size/flop.ts'),
          here('full-size/step.ts'),
        ]
      : [python as string, here('reference/step.py')];
  const { status, stdout } = spawnSync(
    command as string,
    [...before, ...args, ...(side === 'python' ? ['0'] : [])],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`${side} ended with ${status}`);
  return JSON.parse(stdout) as Measured;
}

type Sides = Record<'ours' | 'theirs' | 'oursCached', Measured | undefined>;

function printSteps(resolution: number, { ours, theirs, oursCached }: Sides): void {
  console.log(`\n${resolution} px, seconds (median of ${values.steps})`);
  row(['', ...phases, 'step', 'peak RSS', 'start']);
  for (const [name, measured] of Object.entries({
    Python: theirs,
    ours,
    'ours, encoders cached': oursCached,
  })) {
    if (measured === undefined) continue;
    const seconds = phases.map((phase) => secondsOf(measured, phase));
    row([
      name,
      ...seconds.map((value) => (Number.isNaN(value) ? '' : value.toFixed(2))),
      stepSeconds(measured).toFixed(2),
      `${(measured.peakRss / 2 ** 30).toFixed(1)} GiB`,
      measured.startUp.toFixed(1),
    ]);
    const rates = phases.map((phase, i) => (measured.flop[phase] ?? 0) / (seconds[i] as number) / 1e9);
    if (name === 'Python') continue;
    const total = Object.values(measured.flop).reduce((sum, count) => sum + count, 0);
    const rate = total / stepSeconds(measured) / 1e9;
    row([
      '  GFLOP/s',
      ...rates.map((value) => (value > 0 ? value.toFixed(0) : '')),
      `${rate.toFixed(0)} (${((100 * rate) / peak).toFixed(0)} %)`,
    ]);
    const [first = 0, last = 0] = [measured.rss[1], measured.rss.at(-1)];
    console.log(
      `  ${(total / 1e9).toFixed(0)} GFLOP a step; tensors at most ${(measured.peakInUse / 2 ** 30).toFixed(2)} GiB; resident after step 2 ${(first / 2 ** 30).toFixed(2)}, after the last ${(last / 2 ** 30).toFixed(2)} GiB`,
    );
  }
  if (ours === undefined || theirs === undefined) return;
  const ratio = (measured: Measured | undefined) =>
    (stepSeconds(theirs) / stepSeconds(measured as Measured)).toFixed(2);
  console.log(
    `Python / ours: ${ratio(ours)}; Python without / ours with cached encoders: ${ratio(oursCached)}`,
  );
  console.log(
    `peak RSS, ours / Python: ${(ours.peakRss / theirs.peakRss).toFixed(2)}; with cached encoders ${((oursCached?.peakRss ?? 0) / theirs.peakRss).toFixed(2)}`,
  );
  const difference = ours.losses.map((loss, i) => Math.abs(loss / (theirs.losses[i] as number) - 1));
  console.log(`losses differ by at most ${Math.max(...difference).toExponential(1)} (relative)`);
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
