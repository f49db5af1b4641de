/**
 * @file A training step of SDXL Plus at full size (random weights, 256 px, encodings cached, gradient checkpointing, batch 1,
 * float32): the peak memory that `--dry-run` predicts against the peak of the run, and its time beside PyTorch's same step.
 *
 *     npx tsx bench/sdxl.ts [--steps 3] [--python PYTHON] [--models FOLDER]
 *
 * The models take 17 GB of disk and the step about 20 GiB of memory. PYTHON has torch, diffusers and safetensors; without it
 * only our side is measured.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { writeDataset } from '../demo/world/dataset.js';
import { writeFullSizeSDXL } from './full-size/sdxl-models.js';
import { peaksUntil } from './peak-memory.js';
import { median } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '3' },
    python: { type: 'string' },
    models: { type: 'string', default: 'build/full-size-sdxl' },
  },
});
const { models: root, steps } = values;
const command = join(import.meta.dirname, '../dist/cli/ip-adapter.cjs');

writeFullSizeSDXL(root);
await writeDataset(join(root, 'data'), { count: 2, split: 'train', seed: 1 });
const out = join(root, 'out');
const words = [
  ...['train', '--model', join(root, 'model'), '--image-encoder', join(root, 'image_encoder')],
  ...['--dataset', join(root, 'data/dataset.json'), '--resolution', '256', '--batch-size', '1'],
  ...['--cache', 'latents,text,image', '--cache-dir', join(root, 'cache'), '--gradient-checkpointing'],
  ...['--max-steps', steps, '--output-dir', out],
];

// The caches are filled by a run of their own, whose encoders are in memory meanwhile.
await run([...words, '--max-steps', '1']);
const predicted = gibIn((await run([...words, '--dry-run'])).stdout, /peak ([\d.]+) GiB/);
const { peak } = await run(words);
const seconds = stepSeconds();
console.log(`predicted by --dry-run ${predicted.toFixed(2)} GiB, peak ${peak.toFixed(2)} GiB`);
console.log(`ours: ${seconds.toFixed(1)} s a step`);
if (values.python !== undefined) {
  const script = join(import.meta.dirname, 'reference/sdxl_step.py');
  const { stdout } = spawnSync(values.python, [script, root, join(out, `checkpoint-${steps}`), steps], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const python = JSON.parse(stdout) as { seconds: number[]; peak_gib: number };
  const theirs = median(python.seconds.slice(1));
  console.log(`PyTorch: ${theirs.toFixed(1)} s a step, peak ${python.peak_gib.toFixed(2)} GiB`);
  console.log(`PyTorch / ours ${(theirs / seconds).toFixed(2)}`);
}

/** Runs the command afresh, and watches the memory of its process. */
async function run(args: readonly string[]): Promise<{ stdout: string; peak: number }> {
  rmSync(out, { recursive: true, force: true });
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  const closed = once(child, 'close');
  const [peak = 0] = await peaksUntil(closed, () => [child.pid as number]);
  const [code] = await closed;
  if (code !== 0) throw new Error(`the command ended with ${code}`);
  return { stdout, peak };
}

function gibIn(text: string, pattern: RegExp): number {
  return Number(pattern.exec(text)?.[1] ?? Number.NaN);
}

function stepSeconds(): number {
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return median(lines.map((line) => JSON.parse(line)['speed/step_seconds'] as number).slice(1));
}
