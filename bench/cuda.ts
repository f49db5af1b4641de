/**
 * @file Benchmarks training steps at full size on a GPU (SD 1.5, CLIP ViT-H, mixed precision), compared with the same
 * computation in PyTorch (accelerate's autocast, fused attention, fused AdamW), with and without torch.compile, each in its
 * own process.
 *
 *     npx tsx bench/cuda.ts [--models FOLDER] [--batch 1 --batch 8 --batch 32] [--resolution 512] [--steps 10]
 *                           [--device cuda] [--mixed-precision bf16]
 *
 * After three warm-up steps, all steps of a process are timed together, synchronizing with the device only before and after.
 * Models and inputs are those of bench/train.ts. Losses are compared (relative differences) with those of the first side,
 * and at the end with ours in float32 on the CPU. This has not been run on a GPU yet.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeFolder } from '../src/base/make-folder.js';
import { torchVersion } from '../src/torch/index.js';
import { writeInputs } from './full-size/inputs.js';
import type { Throughput } from './full-size/measured.js';
import { writeFullSizeModels } from './full-size/models.js';
import { runOurs, runPython } from './full-size/processes.js';
import { findPython } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: 'build/full-size' },
    batch: { type: 'string', multiple: true, default: ['1', '8', '32'] },
    resolution: { type: 'string', default: '512' },
    steps: { type: 'string', default: '10' },
    device: { type: 'string', default: 'cuda' },
    'mixed-precision': { type: 'string', default: 'bf16' },
  },
});
const { models, resolution, steps, device, 'mixed-precision': precision } = values;
if (precision !== 'bf16' && precision !== 'no')
  throw new Error(`Expected bf16 or no for --mixed-precision but received ${precision}`);
const dtype = precision === 'bf16' ? 'bfloat16' : 'float32';
const python = findPython();

/** The processes to compare, and their modes. */
const sides: { name: string; isPython: boolean; modes: string[] }[] = [
  { name: 'Python', isPython: true, modes: [] },
  { name: 'Python, torch.compile', isPython: true, modes: ['compile'] },
  { name: 'Python, encoders cached', isPython: true, modes: ['cached'] },
  { name: 'ours', isPython: false, modes: [] },
  { name: 'ours, encoders cached', isPython: false, modes: ['cached'] },
];
if (device !== 'cpu')
  sides.push(
    { name: 'ours, graphs', isPython: false, modes: ['graphs'] },
    { name: 'ours, cached, graphs', isPython: false, modes: ['cached', 'graphs'] },
  );

makeFolder(models);
writeFullSizeModels(models);
console.log(`${resolution} px, ${dtype} on ${device}, LibTorch ${torchVersion}, ${describePython()}`);
for (const batch of values.batch) compareSides(Number(batch));
compareLosses();

function compareSides(batch: number): void {
  const inputs = inputsOf(batch);
  console.log();
  row([`batch ${batch}`, 's/step', 'images/s', 'peak GiB', 'loss difference']);
  /** Losses of the first side that succeeds, by whether encoders are cached. */
  const references = new Map<boolean, number[]>();
  for (const { name, isPython, modes } of sides) {
    if (isPython && python === undefined) continue;
    try {
      const { seconds, peakBytes, losses } = measure(isPython, inputs, steps, modes);
      const peak = peakBytes === null ? '' : (peakBytes / 2 ** 30).toFixed(2);
      const reference = references.get(modes.includes('cached'));
      if (reference === undefined) references.set(modes.includes('cached'), losses);
      const difference = reference && exponential(Math.max(...relativeDifferences(losses, reference)));
      row([name, seconds.toFixed(4), (batch / seconds).toFixed(2), peak, difference ?? '']);
    } catch (error) {
      // One side may run out of memory with a large batch; the others still run.
      row([name, (error as Error).message]);
    }
  }
}

/** Compares our losses on the device with ours in float32 on the CPU. */
function compareLosses(): void {
  const inputs = inputsOf(1);
  const deviceLosses = measure(false, inputs, '1', []).losses;
  const cpuLosses = measure(false, inputs, '1', [], { device: 'cpu', dtype: 'float32' }).losses;
  console.log(`\nlosses of the first ${cpuLosses.length} steps, batch 1`);
  row([`ours, ${dtype} on ${device}`, ...deviceLosses.map((loss) => loss.toFixed(6))]);
  row(['ours, float32 on cpu', ...cpuLosses.map((loss) => loss.toFixed(6))]);
  row(['relative difference', ...relativeDifferences(deviceLosses, cpuLosses).map(exponential)]);
}

function measure(
  isPython: boolean,
  inputs: string,
  count: string,
  modes: readonly string[],
  target = { device, dtype },
): Throughput {
  const options = ['throughput', ...modes, '--device', target.device, '--dtype', target.dtype];
  return isPython
    ? // 0: PyTorch's default number of threads.
      runPython(python as string, [models, inputs, count, '0', ...options])
    : runOurs([models, inputs, count, ...options]);
}

function inputsOf(batch: number): string {
  const file = join(models, `inputs-${resolution}-${batch}.safetensors`);
  writeInputs(file, Number(resolution), batch);
  return file;
}

function relativeDifferences(losses: readonly number[], reference: readonly number[]): number[] {
  return losses.map((loss, i) => Math.abs(loss / (reference[i] as number) - 1));
}

function describePython(): string {
  if (python === undefined) return 'no torch';
  const script =
    'import torch; print("PyTorch", torch.__version__, *([torch.cuda.get_device_name()] if torch.cuda.is_available() else []))';
  return spawnSync(python, ['-c', script], { encoding: 'utf8' }).stdout.trim();
}

function exponential(value: number): string {
  return value.toExponential(1);
}

function row([first = '', ...others]: readonly string[]): void {
  console.log(first.padEnd(26) + others.map((cell) => cell.padStart(14)).join(''));
}
