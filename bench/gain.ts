/**
 * @file Whether the gain tells runs that learn from runs that do not: trains on the demo's world as `npm start` does, healthy
 * and broken in one way each, with several seeds, and measures the gain on held-out scenes.
 *
 *     npx tsx bench/gain.ts [--seeds 10] [--steps 100,300] [--rows 32] [--only healthy,shuffled]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { faults, measureGain } from '../demo/gain-runs.js';
import { RECIPE } from '../demo/recipe.js';
import { writeDataset } from '../demo/world/dataset.js';
import type { Interval } from '../src/base/statistics.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10' },
    steps: { type: 'string', default: '100' },
    rows: { type: 'string', default: '32' },
    only: { type: 'string' },
  },
});
const measuredAt = values.steps.split(',').map(Number);
const totalSteps = Math.max(...measuredAt);

const chosen = values.only?.split(',') ?? Object.keys(faults);

const folder = mkdtempSync(join(tmpdir(), 'gain-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const dataset = await writeDataset(join(folder, 'train'), {
  count: 16 * totalSteps,
  split: 'train',
  seed: 1,
});
const heldOut = await writeDataset(join(folder, 'held-out'), {
  count: Number(values.rows),
  split: 'train',
  seed: 99,
});

const shown = ({ mean, low, high }: Interval): string =>
  [mean, low, high].map((value) => (1000 * value).toFixed(2).padStart(8)).join(' ');

for (const name of chosen) {
  const fault = faults[name as keyof typeof faults];
  const above = new Map(measuredAt.map((step) => [step, 0]));
  for (let seed = 0; seed < Number(values.seeds); seed++) {
    const outputDir = join(folder, `${name}-${seed}`);
    const options = { ...RECIPE, dataset, outputDir, seed, maxSteps: totalSteps, reportTo: 'none' };
    const run = { options, fault, heldOut, cacheDir: join(folder, 'cache'), measuredAt };
    await measureGain(run, (step, { gain, over_none, over_base, specificity, seconds }) => {
      if (gain.low > 0) above.set(step, (above.get(step) as number) + 1);
      console.log(
        `${name.padEnd(22)} seed ${seed} step ${String(step).padStart(4)}  gain ${shown(gain)}  over none ${shown(over_none)}  over base ${shown(over_base)}  specificity ${shown(specificity)}  ${seconds.toFixed(1)} s`,
      );
    });
  }
  for (const [step, count] of above)
    console.log(
      `${name}: at step ${step} the interval of the gain lies above 0 in ${count} of ${values.seeds} runs`,
    );
}
