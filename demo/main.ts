/**
 * @file `npm start`: from nothing to pictures that follow pictures, without a download. Draws a small world, trains an
 * IP-Adapter Plus on the Stable Diffusion that ships with it (see demo/pretrain), looks at it as it learns, and
 * measures it on scenes that no training has seen.
 *
 *     npm start                    about 4 minutes of training on two CPU cores
 *     npm start -- --steps 6000    under half an hour, and much better
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { type Evaluation, IPAdapterPipeline, type RgbImage } from '../src/index.js';
import { type Column, writeReport } from './report.js';
import { writeDataset } from './world/dataset.js';

const { values } = parseArgs({ options: { steps: { type: 'string', default: '1000' } } });
const steps = Number(values.steps);
if (!Number.isInteger(steps) || steps < 1) {
  console.error(`Expected a number of steps, 1 or more, for --steps but received ${values.steps}`);
  process.exit(2);
}
/** Held-out scenes that are drawn as the training goes, and all that are measured at its end. */
const SHOWN = 8;
const MEASURED = 64;
const DRAW = { steps: 20, guidanceScale: 3, batchSize: 32 };

process.chdir(join(import.meta.dirname, '..'));
const out = 'demo-out';
const models = ['--model', 'demo/models', '--image-encoder', 'demo/models/image_encoder'];
const [adapters, heldOut] = [join(out, 'adapter'), join(out, 'held-out')];

/** Runs `npx ip-adapter …` as one would by hand, and ends where it fails. Ctrl-C reaches it too, and it saves. */
function run(words: readonly string[]): void {
  console.log(`\n$ npx ip-adapter ${words.join(' ').replaceAll(' --', ' \\\n    --')}\n`);
  process.on('SIGINT', ignore);
  const { status } = spawnSync('npx', ['ip-adapter', ...words], { stdio: 'inherit' });
  process.off('SIGINT', ignore);
  if (status !== 0) process.exit(status ?? 1);
}
function ignore(): void {}

// Each start begins anew, so that what it shows is what a fresh machine shows.
rmSync(out, { recursive: true, force: true });
mkdirSync(out);
// As many as a longer training does not learn by heart.
const count = Math.max(3000, 2 * steps);
console.log(`1. Drawing ${count} scenes to train on, and ${MEASURED} others to measure with: ${out}/`);
const dataset = await writeDataset(join(out, 'train'), { count, split: 'train', seed: 1 });
const measured = await writeDataset(heldOut, { count: MEASURED, split: 'held-out', seed: 64 });
const prompts = JSON.parse(readFileSync(measured, 'utf8'))
  .slice(0, SHOWN)
  .map((row: { image_file: string }) => join(heldOut, row.image_file)) as string[];

/** One picture for each prompt: no text, the same noise each time. */
async function draw(adapter?: string): Promise<RgbImage[]> {
  using pipeline = await IPAdapterPipeline.load({
    model: 'demo/models',
    ...(adapter && { adapter, imageEncoder: 'demo/models/image_encoder' }),
  });
  const jobs = prompts.map((prompt, seed) => ({ seed, images: adapter ? [prompt] : [] }));
  // Awaited here: the models are let go of when this function ends.
  return await pipeline.generateEach(jobs, DRAW);
}

console.log('2. Training an IP-Adapter Plus; in between, drawing what it has learnt');
const quarter = Math.ceil(steps / 4);
run([
  'train',
  ...['--model', 'demo/models'],
  ...['--image-encoder', 'demo/models/image_encoder'],
  ...['--dataset', dataset],
  ...['--output-dir', adapters],
  ...['--resolution', '64'],
  ...['--batch-size', '16'],
  ...['--learning-rate', '5e-4'],
  // Long near its start, and 0 at the end: in single runs half a cosine and a straight line taught less.
  ...['--lr-scheduler', 'polynomial', '--lr-power', '0.4', '--lr-warmup-steps', '30'],
  ...['--max-steps', String(steps)],
  ...['--save-steps', String(quarter)],
  // The same pictures again and again: what the frozen encoders make of them is computed once.
  ...['--cache', 'latents,text,image'],
  ...['--validation-images', ...prompts, '--validation-steps', String(quarter)],
  ...['--validation-sampling-steps', String(DRAW.steps)],
  ...['--validation-guidance-scale', String(DRAW.guidanceScale)],
]);
const columns: Column[] = [{ title: 'no adapter', images: await draw() }];
for (let drawn = 0; drawn < steps; ) {
  drawn = Math.min(drawn + quarter, steps);
  const pictures = await draw(join(adapters, `checkpoint-${drawn}`));
  columns.push({ title: `step ${drawn}`, images: pictures });
}

console.log(`\n3. Measuring on ${MEASURED} held-out scenes, without text`);
const checkpoint = join(adapters, `checkpoint-${steps}`);
const evaluation = join(out, 'evaluation.json');
run([
  'evaluate',
  ...models,
  ...['--adapter', checkpoint],
  ...['--dataset', measured],
  ...['--metric-text-encoder', 'demo/models/text_encoder'],
  ...['--steps', String(DRAW.steps), '--guidance-scale', String(DRAW.guidanceScale), '--batch-size', '32'],
  ...['--out', evaluation],
]);
run(['export', checkpoint, join(out, 'ip-adapter-plus_demo.bin')]);
await writeReport(out, {
  prompts,
  columns,
  evaluation: JSON.parse(readFileSync(evaluation, 'utf8')) as Evaluation,
  metrics: join(adapters, 'metrics.jsonl'),
});

console.log(`
${out}/index.html shows it all; ${out}/grid.png the pictures alone.
The adapter: ${checkpoint}/ip_adapter.safetensors, and as a .bin beside the page.

Next:
   draw with it         npx ip-adapter generate ${models.join(' ')} --adapter ${checkpoint} --images ${prompts[0]} --out out.png
   train longer         npm start -- --steps 6000
   your own images      the section "Train on your own images" in README.md
`);
