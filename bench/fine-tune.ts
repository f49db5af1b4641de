/**
 * @file Whether a fine-tune beats a new adapter after the same few steps: trains an adapter on the demo's world (`--base` steps), then a fine-tune of
 * it and a new one on the same 20 other scenes, for several seeds, and measures both on held-out scenes. The fine-tune has the rate and schedule of
 * `--preset fine-tune`; the new adapter is tried with those and with the demo's own.
 *
 *     npx tsx bench/fine-tune.ts [--seeds 3] [--base 400] [--steps 50] [--images 20]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DRAW, RECIPE } from '../demo/recipe.js';
import { writeDataset } from '../demo/world/dataset.js';
import { interval } from '../src/base/statistics.js';
import { evaluate, presets, type TrainOptions, train } from '../src/index.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '3' },
    base: { type: 'string', default: '400' },
    steps: { type: 'string', default: '50' },
    images: { type: 'string', default: '20' },
  },
});
const [seeds, baseSteps, steps, images] = [values.seeds, values.base, values.steps, values.images].map(
  Number,
) as [number, number, number, number];
const SIZE = 64;
const root = mkdtempSync(join(tmpdir(), 'fine-tune-'));
process.on('exit', () => rmSync(root, { recursive: true, force: true }));

const large = await writeDataset(join(root, 'large'), { count: 3000, split: 'train', seed: 1 });
const few = await writeDataset(join(root, 'few'), { count: images, split: 'train', seed: 2 });
const heldOut = await writeDataset(join(root, 'held-out'), { count: SIZE, split: 'held-out', seed: 64 });
const models = { model: RECIPE.model, imageEncoder: RECIPE.imageEncoder };
const { learningRate, lrScheduler, maxGradNorm } = presets['fine-tune'];
const preset = { learningRate, lrScheduler, maxGradNorm, lrWarmupSteps: Math.ceil(steps / 10), batchSize: 4 };

const common: Partial<TrainOptions> = {
  ...models,
  resolution: RECIPE.resolution,
  cache: 'latents,text,image',
  cacheDir: join(root, 'cache'),
};
const measured = new Map<string, number[]>();
for (let seed = 0; seed < seeds; seed++) {
  const run = async (name: string, options: Partial<TrainOptions>): Promise<string> => {
    const outputDir = join(root, `${name} ${seed}`);
    const { checkpoint } = await train({ ...common, seed, outputDir, ...options } as TrainOptions);
    await measure(name, checkpoint);
    return checkpoint;
  };
  const base = await run('before', { ...RECIPE, dataset: large, maxSteps: baseSteps });
  const same = { dataset: few, maxSteps: steps };
  await run('fine-tune', { ...preset, ...same, adapter: base });
  await run('new, the same options', { ...preset, ...same });
  await run("new, the demo's options", { ...RECIPE, ...same, batchSize: 4 });
}

for (const [name, list] of measured) console.log(`${name.padEnd(26)}${described(list)}`);
const tuned = measured.get('fine-tune') as number[];
for (const [name, list] of measured)
  if (name.startsWith('new'))
    console.log(`fine-tune over ${name}: ${described(tuned.map((value, i) => value - (list[i] as number)))}`);
console.log(`retrieval top-1 of ${SIZE}, ${seeds} seeds; chance ${percent(1 / SIZE)}`);

async function measure(name: string, adapter: string): Promise<void> {
  const { scores } = await evaluate({ ...models, adapter, dataset: heldOut, scales: [1], ...DRAW });
  const { retrievalTop1, clipI } = scores[0] as { retrievalTop1: number; clipI: number };
  measured.set(name, [...(measured.get(name) ?? []), retrievalTop1]);
  console.log(`${name}: retrieval ${percent(retrievalTop1)}, CLIP-I ${clipI.toFixed(3)}`);
}

function described(list: readonly number[]): string {
  const each = list.map(percent).join(', ');
  if (list.length < 2) return each;
  const { mean, low, high } = interval(list);
  return `${percent(mean)} (${percent(low)} … ${percent(high)}) of ${each}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
