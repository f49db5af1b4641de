/**
 * @file What `npm start` teaches, over several seeds and sets of held-out scenes: trains as it does, and measures retrieval
 * on disjoint sets of 64.
 *
 *     npx tsx bench/demo.ts [--seeds 3] [--sets 4] [--steps 1000] [--train '{"snrGamma": 5}'] [--draw '{"guidanceScale": 4}']
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DRAW, RECIPE } from '../demo/recipe.js';
import { writeDataset } from '../demo/world/dataset.js';
import { interval } from '../src/base/statistics.js';
import { evaluate, type TrainOptions, train } from '../src/index.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '3' },
    'first-seed': { type: 'string', default: '0' },
    sets: { type: 'string', default: '4' },
    steps: { type: 'string', default: '1000' },
    train: { type: 'string', default: '{}' },
    draw: { type: 'string', default: '{}' },
    keep: { type: 'string' },
  },
});
const [seeds, firstSeed, sets, maxSteps] = [
  values.seeds,
  values['first-seed'],
  values.sets,
  values.steps,
].map(Number) as [number, number, number, number];
const SIZE = 64;
const root = values.keep ?? mkdtempSync(join(tmpdir(), 'demo-'));
if (values.keep === undefined) process.on('exit', () => rmSync(root, { recursive: true, force: true }));

const dataset = await writeDataset(join(root, 'train'), {
  count: Math.max(3000, 2 * maxSteps),
  split: 'train',
  seed: 1,
});
const heldOut = await writeDataset(join(root, 'held-out'), {
  count: SIZE * sets,
  split: 'held-out',
  seed: 64,
});
const rows = JSON.parse(readFileSync(heldOut, 'utf8')) as object[];
const lists = Array.from({ length: sets }, (_, i) => {
  const file = join(root, 'held-out', `set-${i}.json`);
  writeFileSync(file, JSON.stringify(rows.slice(i * SIZE, (i + 1) * SIZE)));
  return file;
});

const all: number[] = [];
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
  const start = performance.now();
  const { checkpoint } = await train({
    ...{ ...RECIPE, dataset, maxSteps, seed, outputDir: join(root, `seed-${seed}`) },
    ...{ cache: 'latents,text,image', cacheDir: join(root, 'cache'), saveSteps: maxSteps },
    ...(JSON.parse(values.train) as Partial<TrainOptions>),
  });
  const minutes = (performance.now() - start) / 60_000;
  const own: number[] = [];
  for (const list of lists) {
    const { scores } = await evaluate({
      model: RECIPE.model,
      imageEncoder: RECIPE.imageEncoder,
      ...{ adapter: checkpoint, dataset: list, scales: [1], ...DRAW, ...JSON.parse(values.draw) },
    });
    own.push(scores[0]?.retrievalTop1 as number);
  }
  all.push(...own);
  console.log(`seed ${seed}: ${own.map(percent).join(', ')}; ${minutes.toFixed(1)} min of training`);
}
if (all.length > 1) {
  const { mean, low, high } = interval(all);
  console.log(
    `retrieval top-1 of ${SIZE}, ${seeds} seeds × ${sets} sets: ${percent(mean)} (${percent(low)} … ${percent(high)}); chance ${percent(1 / SIZE)}`,
  );
}
