/**
 * @file Benchmarks the phases of a training step at full size (SD 1.5, CLIP ViT-H, batch 1, float32), ours and the same
 * computation in PyTorch, each in its own process. PyTorch is measured with its default number of threads (one on Debian) and
 * with all cores.
 *
 *     npm run bench -- [--resolution 512] [--resolution 256] [--steps 3] [--models FOLDER]
 *
 * The demo's step is measured first (demo-step.ts). The full-size models have random weights (6.8 GB, written once into the
 * folder). Both sides read the same files and inputs, and their losses are compared. The first step of each process is a
 * warm-up.
 */
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeFolder } from '../src/base/make-folder.js';
import { torchVersion } from '../src/torch/index.js';
import { compareDemoStep } from './demo-step.js';
import { writeInputs } from './full-size/inputs.js';
import { matmulRate } from './full-size/matmul-rate.js';
import { type Measured, type Phase, phases } from './full-size/measured.js';
import { writeFullSizeModels } from './full-size/models.js';
import { flopCounter, runOurs, runPython } from './full-size/processes.js';
import { findPython, median } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    resolution: { type: 'string', multiple: true, default: ['256', '512'] },
    steps: { type: 'string', default: '3' },
    models: { type: 'string', default: 'build/full-size' },
  },
});
const python = findPython();
/** Includes one warm-up step. */
const stepCount = String(Number(values.steps) + 1);

makeFolder(values.models);
writeFullSizeModels(values.models);
await compareDemoStep(9);
console.log(
  `LibTorch ${torchVersion}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, 2048³ product ${matmulRate().toFixed(0)} GFLOP/s`,
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
  return runOurs([values.models, inputs, stepCount, ...modes], [flopCounter]);
}

/** @param threads 0: PyTorch's default */
function measurePython(inputs: string, threads: number): Measured | undefined {
  if (python === undefined) return undefined;
  return runPython(python, [values.models, inputs, stepCount, String(threads)]);
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
  printSide('Python, all cores', python);
  printSide('ours', ours);
  printWork(ours);
  printSide('ours, encoders cached', oursCached);
  printWork(oursCached);
  printSide('  with checkpointing', oursCheckpointing);
  printWork(oursCheckpointing);
  if (python === undefined || pythonDefault === undefined) return;
  for (const [name, theirs] of Object.entries({ 'all cores': python, 'its defaults': pythonDefault })) {
    const speedups = [ours, oursCached].map((side) => (stepSeconds(theirs) / stepSeconds(side)).toFixed(2));
    const memoryRatios = [ours, oursCached].map((side) => (side.peakRss / theirs.peakRss).toFixed(2));
    console.log(
      `Python with ${name} / ours: ${speedups.join(', cached ')}; peak RSS, ours / Python: ${memoryRatios.join(', cached ')}`,
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

/** Prints the operations' rate in each phase, compared with a matrix product's at the same time, and memory use. */
function printWork(measured: Measured): void {
  const { flop, rss, peakInUse } = measured;
  const product = median(measured.products);
  const rates = phases.map((phase) => (flop[phase] ?? 0) / secondsOf(measured, phase) / 1e9);
  const total = Object.values(flop).reduce((sum, count) => sum + count, 0);
  const rate = total / stepSeconds(measured) / 1e9;
  const share = `${rate.toFixed(0)} (${((100 * rate) / product).toFixed(0)} %)`;
  row(['  GFLOP/s', ...rates.map((value) => (value > 0 ? value.toFixed(0) : '')), share]);
  const gib = (bytes = 0): string => (bytes / 2 ** 30).toFixed(2);
  console.log(
    `  ${(total / 1e9).toFixed(0)} GFLOP a step, 2048³ product ${product.toFixed(0)} GFLOP/s; tensors at most ${gib(peakInUse)} GiB; resident after step 2 ${gib(rss[1])}, after the last ${gib(rss.at(-1))} GiB`,
  );
}

function secondsOf({ steps }: Measured, phase: Phase): number {
  const all = steps.slice(1).flatMap((step) => step[phase] ?? []);
  return all.length === 0 ? Number.NaN : median(all);
}

function stepSeconds({ steps }: Measured): number {
  return median(steps.slice(1).map((step) => Object.values(step).reduce((sum, value) => sum + value, 0)));
}

function row(cells: readonly string[]): void {
  const [first = '', ...others] = cells;
  console.log(first.padEnd(24) + others.map((cell) => cell.padStart(15)).join(''));
}
