/**
 * @file Benchmarks the phases of a training step at full size (SD 1.5, CLIP ViT-H, batch 1, float32), ours and the same
 * computation in today's PyTorch, each in its own process on every core: eager, channels-last, and compiled; without and with
 * the encodings cached on both sides; in bfloat16 too where the processor has its products.
 *
 *     npm run bench -- [--resolution 512] [--resolution 256] [--steps 3] [--rounds 1] [--models FOLDER] [--python PYTHON]
 *                      [--without MODE …]
 *
 * Without `--python` the script makes an environment with the packages that `npm run interop` pins, in build/interop. The
 * demo's step is measured first (demo-step.ts). The full-size models have random weights (6.8 GB, written once into the
 * folder). All read the same files and inputs, and their losses are compared. The first step of each process is a warm-up.
 * Rounds measure all sides in turn, since the machine's speed varies.
 */
import { mkdirSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hasCpuFlags } from '../src/base/cpu-flags.js';
import { makeFolder } from '../src/base/make-folder.js';
import { torchVersion } from '../src/torch/index.js';
import { createPython, run } from '../tools/interop/environment.js';
import { compareDemoStep } from './demo-step.js';
import { writeInputs } from './full-size/inputs.js';
import { matmulRate } from './full-size/matmul-rate.js';
import { type Measured, type Phase, phases } from './full-size/measured.js';
import { writeFullSizeModels } from './full-size/models.js';
import { flopCounter, runOurs, runPython } from './full-size/processes.js';
import { median } from './side-by-side.js';

/** What PyTorch is measured with. */
const peerModes = ['eager', 'channels-last', 'compile'] as const;

const { values } = parseArgs({
  options: {
    resolution: { type: 'string', multiple: true, default: ['256', '512'] },
    steps: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '1' },
    models: { type: 'string', default: 'build/full-size' },
    python: { type: 'string' },
    without: { type: 'string', multiple: true, default: [] },
  },
});
const environment = join(import.meta.dirname, '../build/interop');
mkdirSync(environment, { recursive: true });
const python = values.python ?? createPython(environment);
/** Of the frozen models; what is trained is in float32. */
const dtypes = [
  'float32',
  ...(hasCpuFlags(['avx512_bf16']) || hasCpuFlags(['amx_bf16']) ? ['bfloat16'] : []),
];
/** Includes one warm-up step. */
const stepCount = String(Number(values.steps) + 1);

makeFolder(values.models);
writeFullSizeModels(values.models);
await compareDemoStep(9, python);
console.log(
  `LibTorch ${torchVersion()}, PyTorch ${run(python, ['-c', 'import torch; print(torch.__version__)']).trim()}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, 2048³ product ${matmulRate().toFixed(0)} GFLOP/s`,
);
for (const resolution of values.resolution.map(Number)) {
  const inputs = join(values.models, `inputs-${resolution}.safetensors`);
  writeInputs(inputs, resolution);
  console.log(`\n${resolution} px, seconds (median of ${Number(values.rounds) * Number(values.steps)})`);
  row(['', ...phases, 'step', 'peak RSS', 'start']);
  for (const dtype of dtypes) for (const caching of [[], ['cached']]) compare(inputs, caching, dtype);
  const checkpointing = measureOurs(inputs, 'cached', 'checkpointing');
  printSide('ours, cached, checkpointing', checkpointing);
  printWork(checkpointing);
}

/** Measures and prints all sides, without or with the encodings cached. */
function compare(inputs: string, caching: readonly string[], dtype: string): void {
  const label = (name: string): string =>
    [name, ...caching, ...(dtype === 'float32' ? [] : [dtype])].join(', ');
  const modes = peerModes.filter((mode) => !values.without.includes(mode));
  const ours: Measured[] = [];
  const theirs = modes.map((): Measured[] => []);
  for (let round = 0; round < Number(values.rounds); round++) {
    ours.push(measureOurs(inputs, ...caching, '--dtype', dtype));
    for (const [i, mode] of modes.entries())
      theirs[i]?.push(measurePython(inputs, ...caching, mode, '--dtype', dtype));
  }
  const our = joined(ours);
  printSide(label('ours'), our);
  printWork(our);
  const peers = theirs.map(joined);
  for (const [i, mode] of modes.entries()) printSide(label(`PyTorch, ${mode}`), peers[i] as Measured);
  for (const [i, mode] of modes.entries()) {
    const peer = peers[i] as Measured;
    const differences = our.losses.map((loss, step) => Math.abs(loss / (peer.losses[step] as number) - 1));
    console.log(
      `  ${mode} / ours: time ${(stepSeconds(peer) / stepSeconds(our)).toFixed(2)}; ours / ${mode}: peak RSS ${(our.peakRss / peer.peakRss).toFixed(2)}; losses differ by at most ${Math.max(...differences).toExponential(1)} (relative)`,
    );
  }
}

/** Returns several measurements as one, without the warm-ups of all but the first. */
function joined([first, ...others]: readonly Measured[]): Measured {
  if (first === undefined) throw new Error('Expected --rounds of 1 or more');
  return {
    ...first,
    steps: [...first.steps, ...others.flatMap(({ steps }) => steps.slice(1))],
    products: [...first.products, ...others.flatMap(({ products }) => products)],
    peakRss: Math.max(...[first, ...others].map(({ peakRss }) => peakRss)),
  };
}

function measureOurs(inputs: string, ...modes: string[]): Measured {
  return runOurs([values.models, inputs, stepCount, ...modes], [flopCounter]);
}

function measurePython(inputs: string, ...modes: string[]): Measured {
  return runPython(python, [values.models, inputs, stepCount, String(availableParallelism()), ...modes]);
}

function printSide(name: string, measured: Measured): void {
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
  console.log(first.padEnd(32) + others.map((cell) => cell.padStart(15)).join(''));
}
