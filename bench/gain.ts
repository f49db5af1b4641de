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
import { RECIPE } from '../demo/recipe.js';
import { writeDataset } from '../demo/world/dataset.js';
import { withContext } from '../src/base/run-context.js';
import type { Interval } from '../src/base/statistics.js';
import { openDataset } from '../src/data/open-dataset.js';
import { PixelValues } from '../src/images/pixels.js';
import { cat, Generator, tidy } from '../src/torch/index.js';
import { openEncoders } from '../src/training/encodings/encoders.js';
import type { Encode } from '../src/training/encodings/frozen-encoders.js';
import { GainMeter } from '../src/training/gain.js';
import { encodeHeldOut } from '../src/training/held-out.js';
import { remainingBatches, withPreparedRun } from '../src/training/prepare.js';
import { createLoader } from '../src/training/setup.js';
import { trainStep } from '../src/training/step.js';

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

interface Case {
  learningRate?: number;
  lrScheduler?: 'constant';
  /** Replaces the image encoder. */
  image?: (encode: Encode) => Encode;
}

/** What is wrong with a run. */
const cases: Record<string, Case> = {
  healthy: {},
  // The polynomial schedule refuses a rate below its end.
  'learning rate 0': { learningRate: 1e-30, lrScheduler: 'constant' },
  'learning rate too high': { learningRate: 0.05 },
  // Every row is trained with the image of another row of its batch.
  shuffled: {
    image: (encode) => (examples) =>
      tidy(() => {
        const { rows } = encode(examples);
        return { rows: cat([rows.slice(0, 1), rows.slice(0, 0, 1)]) };
      }),
  },
  dropped: {
    image: (encode) => (examples) => {
      const { clipPixelValues } = examples;
      if (clipPixelValues === null) return encode(examples);
      const { images, table, shape } = clipPixelValues;
      const [, , height, width] = shape;
      const nothing = images.map(() => null);
      return encode({ ...examples, clipPixelValues: new PixelValues(nothing, table, { width, height }) });
    },
  },
  'features zeroed': {
    image: (encode) => (examples) => tidy(() => ({ rows: encode(examples).rows.mul(0) })),
  },
};
const chosen = values.only?.split(',') ?? Object.keys(cases);

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
  const { learningRate = RECIPE.learningRate, image, lrScheduler } = cases[name] as Case;
  const above = new Map(measuredAt.map((step) => [step, 0]));
  for (let seed = 0; seed < Number(values.seeds); seed++) {
    const options = {
      ...RECIPE,
      ...{ dataset, outputDir: join(folder, `${name}-${seed}`), seed, learningRate },
      ...{ maxSteps: totalSteps, reportTo: 'none' as const },
      ...(lrScheduler && { lrScheduler }),
    };
    await withContext({}, (context) =>
      withPreparedRun(options, context, async ({ training, loader, state, placement, dataset }) => {
        const { models, config, adapter } = training;
        using encoders = await openEncoders(models, {
          ...{ cached: [], cacheDir: folder, resolution: 64, rows: dataset.rows, loader, placement },
        });
        const held = await openDataset({ dataset: [heldOut] });
        const source = { generator: new Generator(placement.device, 1), device: placement.device };
        const encoded = await encodeHeldOut(
          models,
          encoders,
          createLoader(models, config, held, undefined),
          held.rows,
          source,
        );
        using meter = new GainMeter(models, encoded, 16, source);
        const changed = { ...encoders, ...(image && { image: image(encoders.image) }) };
        for await (const batch of remainingBatches(loader, state, () => Number.POSITIVE_INFINITY)) {
          if (trainStep({ ...training, encoders: changed }, batch, state.step + 1) !== null) state.step++;
          if (measuredAt.includes(state.step)) {
            const start = performance.now();
            const gains = meter.measure(adapter);
            if (gains.gain.low > 0) above.set(state.step, (above.get(state.step) as number) + 1);
            const seconds = ((performance.now() - start) / 1000).toFixed(1);
            console.log(
              `${name.padEnd(22)} seed ${seed} step ${String(state.step).padStart(4)}  gain ${shown(gains.gain)}  over none ${shown(gains.over_none)}  over base ${shown(gains.over_base)}  specificity ${shown(gains.specificity)}  ${seconds} s`,
            );
          }
          if (state.step === totalSteps) break;
        }
      }),
    );
  }
  for (const [step, count] of above)
    console.log(
      `${name}: at step ${step} the interval of the gain lies above 0 in ${count} of ${values.seeds} runs`,
    );
}
