/**
 * @file `npm start`: from nothing to images that follow images, without a download. Renders a small world, trains an
 * IP-Adapter on the Stable Diffusion that ships with it (see demo/pretrain), or a Stable Diffusion XL made from it, generates
 * with it as it learns, and measures it on scenes that are not in the training set.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type Evaluation, IPAdapterPipeline, type RgbImage } from '../src/index.js';
import { families, readArguments } from './arguments.js';
import { readAddEmbedding, writeModelsXL } from './models-xl.js';
import { captionOnOtherBackground } from './other-background.js';
import { DRAW, RECIPE, recipeFlags } from './recipe.js';
import { type Column, writeReport } from './report.js';
import { writeDataset } from './world/dataset.js';
import { sampleScenes } from './world/scene.js';

const { steps, family, kind } = readArguments(process.argv.slice(2));
/** Held-out scenes that are shown as training goes on, those shown at several scales and with text, and all measured. */
const [SHOWN, SHOWN_AT_SCALES, MEASURED] = [8, 4, 64];
const { batchSize: BATCH_SIZE } = RECIPE;

process.chdir(join(import.meta.dirname, '..'));
const out = 'demo-out';
const model = family === 'sd15' ? 'demo/models' : join(out, 'models');
const models = ['--model', model, '--image-encoder', 'demo/models/image_encoder'];
const [adapters, heldOut] = [join(out, 'adapter'), join(out, 'held-out')];

/** Runs `npx ip-adapter …` as a user does, and exits where it fails. Ctrl-C reaches it too, and it saves a checkpoint. */
function run(words: readonly string[]): void {
  console.log(`\n$ npx ip-adapter ${words.join(' ').replaceAll(' --', ' \\\n    --')}\n`);
  process.on('SIGINT', ignore);
  const { status } = spawnSync('npx', ['ip-adapter', ...words], { stdio: 'inherit' });
  process.off('SIGINT', ignore);
  if (status !== 0) process.exit(status ?? 1);
}
function ignore(): void {}

// Each start begins afresh, to show what a fresh machine shows.
rmSync(out, { recursive: true, force: true });
mkdirSync(out);
if (family === 'sdxl') writeModelsXL(model, readAddEmbedding());
// Enough that a longer training does not memorize them.
const count = Math.max(3000, 2 * steps);
console.log(`1. Rendering ${count} scenes to train on, and ${MEASURED} others to measure with: ${out}/`);
const dataset = await writeDataset(join(out, 'train'), { count, split: 'train', seed: 1 });
const measured = await writeDataset(heldOut, { count: MEASURED, split: 'held-out', seed: 64 });
const captions = sampleScenes(MEASURED, 'held-out', 64).map(captionOnOtherBackground);
const prompts = JSON.parse(readFileSync(measured, 'utf8'))
  .slice(0, SHOWN)
  .map((row: { image_file: string }) => join(heldOut, row.image_file)) as string[];

/** Generates an image for each prompt, from the same noise each time. `texts` is for the first prompts. */
async function draw(adapter?: string, scale?: number, texts: readonly string[] = []): Promise<RgbImage[]> {
  using pipeline = await IPAdapterPipeline.load({
    model,
    ...(adapter && { adapter, imageEncoder: 'demo/models/image_encoder' }),
  });
  const shown = scale === undefined ? prompts : prompts.slice(0, SHOWN_AT_SCALES);
  const jobs = shown.map((image, i) => ({ seed: i, images: adapter ? [image] : [], prompt: texts[i] ?? '' }));
  // Awaited here: the models are released when this function ends.
  return await pipeline.generateEach(jobs, { ...DRAW, ...(adapter && scale !== undefined && { scale }) });
}

console.log(
  `2. Training an IP-Adapter (${kind}) for ${families[family].name}, and generating with it as it learns`,
);
const start = performance.now();
const quarter = Math.ceil(steps / 4);
run([
  'train',
  ...['--dataset', dataset],
  ...['--output-dir', adapters],
  ...recipeFlags({ model, ...(kind === 'plus' ? {} : { kind }) }),
  ...['--max-steps', String(steps)],
  ...['--save-steps', String(quarter)],
  // The same images again and again: what the frozen encoders make of them is computed once.
  ...['--cache', 'latents,text,image'],
  ...['--validation-images', ...prompts, '--validation-steps', String(quarter)],
  ...['--validation-sampling-steps', String(DRAW.steps)],
  ...['--validation-guidance-scale', String(DRAW.guidanceScale), '--validation-scales', '0.5', '1'],
  // Tells during the run whether the adapter uses its image.
  ...['--validation-split', '32', '--validation-scores', '32'],
]);
const minutes = (performance.now() - start) / 60_000;
const learning: Column[] = [{ title: 'no adapter', images: await draw() }];
for (let drawn = 0; drawn < steps; ) {
  drawn = Math.min(drawn + quarter, steps);
  learning.push({ title: `step ${drawn}`, images: await draw(join(adapters, `checkpoint-${drawn}`)) });
}
const checkpoint = join(adapters, `checkpoint-${steps}`);
const scales: Column[] = [];
for (const scale of [0.25, 0.5, 0.75, 1])
  scales.push({ title: `scale ${scale}`, images: await draw(checkpoint, scale) });
const texts: Column[] = [{ title: 'text alone', images: await draw(undefined, 0, captions) }];
for (const scale of [0.25, 0.5, 1])
  texts.push({ title: `text, scale ${scale}`, images: await draw(checkpoint, scale, captions) });

console.log(`\n3. Measuring on ${MEASURED} held-out scenes, without text`);
const scores = join(out, 'evaluation.json');
const exported = `ip-adapter-${kind}_demo.bin`;
run([
  'evaluate',
  ...models,
  ...['--adapter', checkpoint],
  ...['--dataset', measured],
  ...['--metric-text-encoder', 'demo/models/text_encoder'],
  ...['--steps', String(DRAW.steps), '--guidance-scale', String(DRAW.guidanceScale), '--batch-size', '32'],
  ...['--out', scores],
]);
run(['report', adapters]);
run(['export', checkpoint, join(out, exported)]);

const generateCommand = `npx ip-adapter generate ${models.join(' ')} --adapter ${checkpoint} --images ${prompts[0]} --out out.png`;
const again = (family === 'sd15' ? '' : `--family ${family} `) + (kind === 'plus' ? '' : `--kind ${kind} `);
const [cpu] = cpus();
const fewPrompts = prompts.slice(0, SHOWN_AT_SCALES);
await writeReport(out, {
  learning: { prompts, columns: learning },
  scales: { prompts: fewPrompts, columns: scales },
  texts: { prompts: fewPrompts, columns: texts, captions: captions.slice(0, SHOWN_AT_SCALES) },
  evaluation: JSON.parse(readFileSync(scores, 'utf8')) as Evaluation,
  report: 'adapter/report.html',
  facts: [
    ['adapter', `${kind}, for ${families[family].name}`],
    [
      'steps',
      `${steps} of ${BATCH_SIZE} images, so ${(steps * BATCH_SIZE).toLocaleString('en')} images seen`,
    ],
    ['dataset', `${count} scenes of 64 × 64 pixels, three in four without a caption`],
    ['training', `${minutes.toFixed(1)} minutes, with validation images and checkpoints`],
    ['machine', `${cpu?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores`],
    ['model', `a ${families[family].name} ${families[family].classes}`],
    ['images', `${DRAW.steps} denoising steps, guidance ${DRAW.guidanceScale}`],
  ],
  next: [
    [
      'Generate an image from one of your own (64 × 64 pixels, as this small model makes them):',
      generateCommand,
    ],
    [
      'Train longer: 6000 steps take under half an hour on two cores, and retrieval rises much further.',
      `npm start -- ${again}--steps 6000`,
    ],
    [
      'Train on your own images with a real Stable Diffusion: see "Train on your own images" in README.md.',
      'npx ip-adapter train --help',
    ],
  ],
  adapter: `adapter/checkpoint-${steps}/ip_adapter.safetensors`,
  exported,
  family: families[family].name,
});

console.log(`
${out}/index.html shows it all, ${adapters}/report.html the training; ${out}/grid.png has the images alone.
The adapter: ${checkpoint}/ip_adapter.safetensors, and as a .bin beside the page.

Next:
   generate with it     ${generateCommand}
   train longer         npm start -- ${again}--steps 6000
   your own images      the section "Train on your own images" in README.md
`);
